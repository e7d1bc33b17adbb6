# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Capacity planning
#
# Which device holds the control rate, what would another device do, and how many robots can one server serve? All
# from measured samples; a prediction has a band, and says so.

# %%
import json
import subprocess
from pathlib import Path

import harness

H100 = "reports/examples/h100-latency/pi05"

# %% [markdown]
# ## Which configuration holds 10 Hz
#
# A robot that replans every chunk must get its decision within 100 ms, nearly always: the p99 counts, not the median.

# %%
BUDGET_MS = 100
samples = harness.read(H100).latency.query("component == 'e2e' and nfe == 10")
for variant, group in samples.groupby("variant"):
    median, p99 = group["latency_ms"].quantile([0.5, 0.99])
    verdict = "holds" if p99 <= BUDGET_MS else "does not hold"
    print(f"{median:6.1f} ms, p99 {p99:6.1f} ms: {verdict} 10 Hz   {variant}")

# %% [markdown]
# ## What another device would do
#
# `harness predict` carries each measured configuration over. The same command prints a table without `--json -`.

# %%
command = ["harness", "predict", "--from", H100, "--to", "h200,jetson-agx-orin-64gb", "--nfe", "10", "--json", "-"]
answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
for row in answer["predictions"]:
    band = f"{row['likely_ms']:6.1f} ms [{row['low_ms']:.0f}–{row['high_ms']:.0f}]"
    print(f"{row['device']:<21} {band:<22} waits for {row['waits_for']:<9}  {row['policy']}")

# %% [markdown]
# Eager configurations wait for the host. No profile of a GPU knows the host, so their bands are wide; measure before
# you buy.
#
# ## How many robots one server can serve
#
# `tests/benchmarks/bench_serving.py` lets concurrent clients ask one server (Pi0.5, eager, NFE 10, one H100). A robot
# that executes ten actions of a chunk at 20 Hz asks twice a second; each of these clients asks as fast as it can.

# %%
serving = json.loads(Path("reports/examples/h100-serving/bench_serving.json").read_text())
DECISIONS_PER_S = 2.0
print(serving["device"])
for row in serving["rows"]:
    robots = int(row["per_s"] / DECISIONS_PER_S)
    wait = f"{row['infer_ms']:.0f} ms a decision"
    print(f"batch {row['batch']:4.0f}: {row['per_s']:5.1f} decisions/s = {robots:2} robots, {wait}")

# %% [markdown]
# Batching multiplies the throughput and lengthens each decision: the last column is what a robot waits. At a chunk of
# ten actions (500 ms at 20 Hz) a batch of 16 still arrives in time; a batch of 32 does not.
