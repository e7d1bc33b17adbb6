"""Known faults of the packages beneath: which versions have them, their state upstream, and what to do meanwhile.

Read in November 2026 in the projects' own threads. Whether one is fixed is decided by the version that is installed,
not by this table's age.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.version import Version

Status = Literal["fixed", "open", "by design"]


@dataclass(frozen=True, slots=True)
class UpstreamIssue:
    """A fault that somebody else has to mend, or has mended."""

    package: str
    """Distribution whose installed version decides."""
    thread: str
    """OWNER/NAME#NUMBER, separated by commas."""
    symptom: str
    affected: str
    """Versions that have it, as a specifier ("<0.6.1"); empty: every one."""
    status: Status
    fixed_in: str | None
    """First version without it; None where there is none."""
    remedy: str

    def affects(self, version: str | None) -> bool:
        """Whether an installed version has it; None is not installed."""
        return version is not None and SpecifierSet(self.affected, prereleases=True).contains(Version(version))

    @property
    def state(self) -> str:
        """Its state upstream, e.g. "fixed in 0.6.1"."""
        return f"fixed in {self.fixed_in}" if self.fixed_in else self.status


UPSTREAM: tuple[UpstreamIssue, ...] = (
    UpstreamIssue(
        "lerobot",
        "huggingface/lerobot#3603, huggingface/lerobot#3247",
        "Pi0 and Pi0.5 score 0 % on LIBERO: with transformers 5.4 and later, embeddings are scaled twice",
        "<0.6",
        "fixed",
        "0.6.0",
        "pip install lerobot==0.6.1, or stay at transformers==5.3.0",
    ),
    UpstreamIssue(
        "lerobot",
        "huggingface/lerobot#4273",
        "Each success skips an init state in lerobot-eval, so that two policies meet different ones",
        "<0.6.1",
        "fixed",
        "0.6.1",
        "pip install lerobot==0.6.1; harness run sets init states itself",
    ),
    UpstreamIssue(
        "lerobot",
        "huggingface/lerobot#1033, huggingface/lerobot#1672, huggingface/lerobot#4022",
        "--resume skips the optimizer's preset: it fails, or goes on with another optimizer or learning rate",
        "<0.6.1",
        "fixed",
        "0.6.1",
        "pip install lerobot==0.6.1, and resume with --config_path=…/train_config.json",
    ),
    UpstreamIssue(
        "lerobot",
        "huggingface/lerobot#2818",
        "An evaluation in the middle of training on several GPUs ends in a collective timeout: other ranks wait for it",
        "",
        "open",
        None,
        "train with --eval_freq=0 and evaluate with harness watch",
    ),
    UpstreamIssue(
        "lerobot",
        "huggingface/lerobot#4206, huggingface/lerobot#2533",
        "lerobot/pi05_libero_base scores 0 %: it is a base to be fine-tuned",
        "",
        "by design",
        None,
        "evaluate a fine-tuned checkpoint, e.g. lerobot/pi05_libero_finetuned_v044",
    ),
    UpstreamIssue(
        "mujoco",
        "huggingface/lerobot#4390",
        "Box-box collisions break libero_spatial task 5 (98 % → 12 %)",
        ">=3.4",
        "open",
        None,
        "pip install mujoco==3.3.2",
    ),
    UpstreamIssue(
        "mujoco",
        "Lifelong-Robot-Learning/LIBERO#87, Lifelong-Robot-Learning/LIBERO#88",
        "Floors are drawn darker than in the demonstrations",
        ">=3.3.3",
        "open",
        None,
        "pip install mujoco==3.3.2",
    ),
)
"""Every known fault, by package."""
