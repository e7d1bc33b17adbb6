"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import harness
import harness.ledger


def test_importing_harness_loads_nothing_heavy() -> None:
    script = (
        "import harness, sys; dir(harness); harness.__version__; "
        "print([name for name in ('ray', 'torch', 'pandas', 'pyarrow', 'mujoco', 'numpy', 'pydantic') "
        "if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


def test_names_arrive_when_they_are_used() -> None:
    assert harness.read is harness.ledger.read
    assert set(harness.__all__) <= set(dir(harness))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"reed.*read"):
        harness.reed  # noqa: B018
