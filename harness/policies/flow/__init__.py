"""`flow`: a small conditional flow-matching chunk policy with the anatomy of Pi0.5, for CPUs and for probes.

Two cameras, the proprioceptive state and the instruction go through a vision encoder and a prefix transformer that
fills a key/value cache; an action expert then reads that cache once per function evaluation and Euler integrates the
velocity field from noise (t = 1) to actions (t = 0). The convention is Pi0's: x_t = (1 - t) * actions + t * noise and
v = noise - actions (Black et al. 2024, arXiv 2410.24164; layer-wise joint attention and adaptive RMS norm as in
Pi0.5, arXiv 2504.16054).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.policies.flow.checkpoint import load_network, random_network, save_network
    from harness.policies.flow.network import Batch, Cache, FlowConfig, FlowNetwork
    from harness.policies.flow.policy import FlowPolicy, make, tokenize

# By name, so that a request can be checked where torch is not installed.
_HOMES = {
    "checkpoint": ("load_network", "random_network", "save_network"),
    "network": ("Batch", "Cache", "FlowConfig", "FlowNetwork"),
    "policy": ("FlowPolicy", "make", "tokenize"),
}

__all__ = [
    "Batch",
    "Cache",
    "FlowConfig",
    "FlowNetwork",
    "FlowPolicy",
    "load_network",
    "make",
    "random_network",
    "save_network",
    "tokenize",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
