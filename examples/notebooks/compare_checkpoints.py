# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Comparing checkpoints across hardware
#
# Two questions, two kinds of evidence. *Does it still succeed?* is asked episode by episode: both checkpoints met the
# same episodes with the same noise. *How fast is it?* is asked device by device, with all samples.
#
# The ledgers ship with the project, so that this page runs without a GPU and without a simulator.

# %%
import matplotlib.pyplot as plt

import harness
from harness.analysis.paired.compare import Choice

LEARNED = "reports/examples/learned/ledger"
PROBES = {"H100": "reports/examples/h100-latency/pi05", "H200": "reports/examples/h200-latency/pi05"}

# %% [markdown]
# ## Success
#
# A rate alone says little about a difference: look at the pairs.

# %%
episodes = harness.read(LEARNED).episodes
print(episodes.groupby(["policy_id", "nfe"])["success"].agg(["mean", "count"]).round(3))

# %% [markdown]
# The one-step student against the teacher's ten steps. `lost` are episodes that only the teacher solved, `gained`
# those that only the student solved.

# %%
compared = harness.compare(LEARNED, LEARNED, choice=Choice("flow", 10, "flow:student", 1))
overall = compared.success[0].overall
counts, difference = overall.counts, overall.difference
print(f"{counts.n} pairs: {counts.lost} lost, {counts.gained} gained, McNemar p = {overall.p:.4f}")
low, high = 100 * difference.low, 100 * difference.high
print(f"difference {100 * counts.difference:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}")

# %% [markdown]
# But is it the distillation that helped? The fair opponent of a one-step student is the teacher's own single step.

# %%
naive = harness.compare(LEARNED, LEARNED, choice=Choice("flow", 1, "flow:student", 1)).success[0].overall
print(f"against the naive single step: {naive.counts.lost} lost, {naive.counts.gained} gained, p = {naive.p:.2f}")

# %% [markdown]
# ## Latency
#
# Pi0.5 at full size with random weights, two devices, three ways to run it. Medians and 99th percentiles come from
# raw samples.

# %%
rows = []
for device, path in PROBES.items():
    samples = harness.read(path).latency.query("component == 'e2e'")
    for (variant, nfe), group in samples.groupby(["variant", "nfe"]):
        quantiles = group["latency_ms"].quantile([0.5, 0.99])
        rows.append((device, variant, nfe, len(group), quantiles[0.5], quantiles[0.99]))
for device, variant, nfe, count, median, p99 in rows:
    print(f"{device}  NFE {nfe:2}  {median:6.1f} ms (p99 {p99:6.1f}, {count:3} samples)  {variant}")

# %% [markdown]
# Eager, the time grows with NFE almost alike on both devices: the host limits it, not the GPU. As CUDA graphs the
# same kernels take a fraction of it.

# %%
figure, axes = plt.subplots(figsize=(7, 3.5))
for device in PROBES:
    for variant, style in (("dtype=bfloat16", "o-"), ("dtype=bfloat16,graphs=true", "s--")):
        points = sorted((nfe, median) for d, v, nfe, _, median, _ in rows if d == device and v == variant)
        if points:
            axes.plot(
                *zip(*points, strict=True), style, label=f"{device}, {'graphs' if 'graphs' in variant else 'eager'}"
            )
axes.set(xlabel="NFE", ylabel="median of a decision, ms", ylim=(0, None))
axes.legend()
