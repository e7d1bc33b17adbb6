"""`flow`: a small conditional flow-matching chunk policy with the anatomy of Pi0.5, for CPUs and for probes.

Two cameras, the proprioceptive state and the instruction go through a vision encoder and a prefix transformer that
fills a key/value cache; an action expert then reads that cache once per function evaluation and Euler integrates the
velocity field from noise (t = 1) to actions (t = 0). The convention is Pi0's: x_t = (1 - t) * actions + t * noise and
v = noise - actions (Black et al. 2024, arXiv 2410.24164; layer-wise joint attention and adaptive RMS norm as in
Pi0.5, arXiv 2504.16054).
"""

from harness.policies.flow.checkpoint import load_network, random_network, save_network
from harness.policies.flow.network import Batch, Cache, FlowConfig, FlowNetwork
from harness.policies.flow.policy import FlowPolicy, make, tokenize

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
