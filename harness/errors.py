"""Typed errors: each names the offending value and says what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INCONCLUSIVE = 2
EXIT_INFRASTRUCTURE = 3
EXIT_USAGE = 64
EXIT_INTERRUPTED = 130


class HarnessError(Exception):
    """Base of every error that a user is meant to read.

    The message is one or two sentences: what is wrong, with the value, and the remedy.
    The command line prints it without a traceback and exits with `exit_code`: 3, because an error is no verdict, and
    no script may read it as FAIL.
    """

    exit_code = EXIT_INFRASTRUCTURE
    resumable = False
    """Whether a run had begun: everything finished is in its ledger, and `--resume` runs the rest."""


class UsageError(HarnessError):
    """The request itself is wrong: an unknown name, a bad value, a contradiction. Exit code 64."""

    exit_code = EXIT_USAGE


class SpecError(UsageError):
    """A suite, protocol, policy or hardware profile does not validate."""


class LedgerError(HarnessError):
    """A ledger cannot be read, written, or merged."""


class NoLedgerError(LedgerError):
    """No ledger stands where one was asked for: nothing was judged. Exit code 64, so that no gate reads it as FAIL."""

    exit_code = EXIT_USAGE


class OtherLedgerError(LedgerError):
    """A ledger stands there, but it is another suite's or protocol's than the one asked for. Exit code 64."""

    exit_code = EXIT_USAGE


class OutputError(HarnessError):
    """What was to be written to a file or to standard output is lost."""


class SimulatorError(HarnessError):
    """LIBERO, MuJoCo or the GL stack cannot do what was asked."""


class RenderError(SimulatorError):
    """No usable GL backend, or a frame that is black or constant."""


class PolicyError(HarnessError):
    """A policy cannot be built, raised, hung, or returned something that is no action."""


class NoPolicyError(PolicyError):
    """No policy stands where one was asked for: an unknown path, repository or module. Exit code 64."""

    exit_code = EXIT_USAGE


class PolicyServerDied(PolicyError):
    """What serves a policy died or cannot be reached, and may come back: the infrastructure's fault, worth a retry."""


class PolicyServerLost(PolicyError):
    """What serves a policy is gone for good, or has come back as something else: no episode can go on."""


class PolicyChanged(PolicyError):
    """What decides now is not what decided before: its episodes would be pooled with those of another policy."""


class NodeError(HarnessError):
    """A node cannot do its part: wrong renderer, missing package, too little disk or memory."""


class ControllerLost(NodeError):
    """The process that hands out a run's episodes and writes its ledger is gone."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Build the error for a name that is not known, answered with the nearest known one.

    Args:
        kind: What was looked up, singular ("suite", "policy", "task").
        name: The name that was asked for.
        known: Every valid name.

    Returns:
        The error to raise.
    """
    names = sorted(known)
    # "h100" means "h100-sxm-80gb", though "h200" is closer letter by letter
    near = [known_name for known_name in names if name and known_name.startswith(name)]
    near = near or difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listing = ", ".join(names[:30]) + (", …" if len(names) > 30 else "")
    return UsageError(f"Unknown {kind} {name!r}.{hint} Known: {listing or 'none'}.")
