# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A nightly gate
#
# A gate turns two ledgers and a list of rules into PASS, FAIL or INCONCLUSIVE. Here the shipped ledger plays both
# nights: the base is the teacher at ten steps, the candidate its one-step student.

# %%
import pandas as pd

from harness.analysis.paired.compare import Choice
from harness.analysis.paired.power import minimum_detectable_drop
from harness.gate import gate
from harness.spec.rules import load_rules

LEDGER = "reports/examples/learned/ledger"
candidate = Choice(base_policy="flow", base_nfe=10, policy="flow:student", nfe=1)

# %% [markdown]
# ## Success alone
#
# The default rules: success within 3 points, no collapsed task, few infrastructure errors.

# %%
result = gate(LEDGER, LEDGER, load_rules(None), choice=candidate)
for rule in result.results:
    print(f"{rule.verdict.name:<13} {rule.rule}: {rule.reason}")
print("→", result.verdict.name)

# %% [markdown]
# ## The nightly rules
#
# They ask about latency too. These ledgers hold no probes, so the gate does not know, and says so: a rule passes on
# evidence only.

# %%
result = gate(LEDGER, LEDGER, load_rules("nightly"), choice=candidate)
print(pd.Series({rule.rule: rule.verdict.name for rule in result.results}).to_string())
print("→", result.verdict.name, "exit code", result.verdict.exit_code)

# %% [markdown]
# ## The other way round
#
# Now the student is in use, and the teacher's ten steps are the candidate.

# %%
back = Choice(base_policy="flow:student", base_nfe=1, policy="flow", nfe=10)
result = gate(LEDGER, LEDGER, load_rules(None), choice=back)
for rule in result.results:
    print(f"{rule.verdict.name:<13} {rule.rule}: {rule.reason}")
print("→", result.verdict.name)

# %% [markdown]
# ## How many episodes a night needs
#
# The smallest drop that so many pairs show with 80 % power, at the share of flips that was seen.

# %%
flips = result.comparison.success[0].overall.counts.discordance
for pairs in (20, 100, 400, 1000, 2000):
    drop = minimum_detectable_drop(pairs, flips)
    print(f"{pairs:5} pairs: " + (f"{100 * drop:.1f} points" if drop is not None else "none"))
