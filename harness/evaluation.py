"""`harness.run`: a run, and at its end the aggregates of its ledger, of which what runs knows nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

from harness.analysis.summary import Summary
from harness.cluster.run import RunResult
from harness.cluster.run import run as run_suite
from harness.delays import sources_of_suite
from harness.expectation import begin
from harness.ledger import read
from harness.report.parquet import write_summary
from harness.spec import Suite, load_suite, parse_policy


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


def _with_sources[**Arguments](execute: Callable[Arguments, RunResult]) -> Callable[Arguments, RunResult]:
    """Have a run look up what its suite's `latency` names, where it is not given `sources`."""

    @wraps(execute)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> RunResult:
        suite = args[0] if args else kwargs.get("suite")
        suite = load_suite(suite) if isinstance(suite, str) else suite
        if isinstance(suite, Suite) and suite.latency and not kwargs.get("sources"):
            given: Any = kwargs
            specs = [parse_policy(each) if isinstance(each, str) else each for each in given.get("policies") or ()]
            kwargs["sources"] = sources_of_suite(suite, [spec.label for spec in specs], given.get("nfe") or ())
        return execute(*args, **kwargs)

    return run


def _with_plan[**Arguments](execute: Callable[Arguments, RunResult]) -> Callable[Arguments, RunResult]:
    """Have a run store what it was expected to take; that is worked out while Ray starts, and never waited for."""

    @wraps(execute)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> RunResult:
        given: dict[str, Any] = {"suite": args[0], **kwargs} if args else dict(kwargs)
        if given.get("expected") is None:
            kwargs["expected"] = begin(given)
        return execute(*args, **kwargs)

    return run


run = _with_summary(_with_sources(_with_plan(run_suite)))
