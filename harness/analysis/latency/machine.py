"""On what a latency was measured: figures of two machines are compared only by whoever says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.spec.profile import CPU_PROFILE


@dataclass(frozen=True)
class Machine:
    """The device that policies ran on."""

    hardware: str | None
    """Hardware profile, or the device's own name where none fits; None where nobody said."""
    model: str | None = None
    """Model and cores of the CPU, where policies ran on one: the profile of all CPUs is the same."""

    @property
    def name(self) -> str:
        """Name in reasons and tables."""
        return ", ".join(part for part in (self.hardware, self.model) if part) or "an unnamed machine"

    def is_like(self, other: Machine) -> bool:
        """Whether two are the same as far as their ledgers tell."""
        unknown = self.model is None or other.model is None
        return self.hardware == other.hardware and (unknown or self.model == other.model)


def with_machines(latency: pd.DataFrame, nodes: pd.DataFrame) -> pd.DataFrame:
    """Rows with the machine that took them: `hardware` and `model`, the fields of `Machine`.

    Args:
        latency: Rows with `run_id`, `node_id` and `hardware`.
        nodes: `Ledger.nodes`; a row whose node is not there has no model.
    """
    known = nodes[["run_id", "node_id", "cpu", "cores", "accelerator"]].drop_duplicates(["run_id", "node_id"])
    joined = latency[["run_id", "node_id", "hardware"]].merge(known, on=["run_id", "node_id"], how="left")
    distinct = joined.drop_duplicates()
    facts = distinct[["hardware", "cpu", "cores", "accelerator"]].astype(object)
    named = [_machine(*row) for row in facts.where(facts.notna(), None).itertuples(index=False, name=None)]
    told = distinct.assign(
        _hardware=_texts([one.hardware for one in named]), model=_texts([one.model for one in named])
    )
    found = joined.merge(told, on=list(joined.columns), how="left")
    columns = {"hardware": found["_hardware"].to_numpy(object), "model": found["model"].to_numpy(object)}
    return latency.assign(**columns)


def _texts(values: list[str | None]) -> NDArray[np.object_]:
    return np.array(values, dtype=object)


def _machine(hardware: Any, cpu: Any, cores: Any, accelerator: Any) -> Machine:
    told = [None if cpu is None else str(cpu), None if cores is None else f"{cores:.0f} cores"]
    model = ", ".join(part for part in told if part) or None
    if hardware is None:
        return Machine(accelerator, None if accelerator else model)
    return Machine(hardware, model if hardware in (CPU_PROFILE, cpu) else None)
