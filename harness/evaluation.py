"""`harness.run`: a run, and at its end the aggregates of its ledger, of which what runs knows nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps

from harness.analysis.summary import Summary
from harness.cluster.run import RunResult
from harness.cluster.run import run as run_suite
from harness.ledger import read
from harness.report.parquet import write_summary


def _with_summary[**Arguments](execute: Callable[Arguments, RunResult]) -> Callable[Arguments, RunResult]:
    """Have a run end with `summary/*.parquet`, whatever came of it."""

    @wraps(execute)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> RunResult:
        result = execute(*args, **kwargs)
        write_summary(Summary(read(result.out)), _warn)
        return result

    return run


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


run = _with_summary(run_suite)
