"""Short names for rows: what all rows share is said once, above the table, and a row shows what is its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from string import ascii_uppercase
from typing import Any

from harness.analysis.latency.percentiles import CONFIGURATION
from harness.analysis.success.rates import VARIANT
from harness.analysis.summary import Summary
from harness.report.format import known, text, variant
from harness.spec.timing import SYNCHRONOUS

LONGEST = 32
"""A name of more characters is replaced by a letter, which the key explains."""

LONGEST_IN_SENTENCE = 48
"""Names of decisions that are longer than this are told by what differs."""

NAIVE = "naive 1-step"
"""A checkpoint of many denoising steps at NFE 1, without a head for it: what a distilled student has to beat."""

_COLUMNS_OF_OPTIONS = ("dtype", "compile", "compile_scope", "graphs")
"""Options of a policy that the columns `dtype` and `compile` of a configuration tell as well."""

Parts = Mapping[str, str]
"""Kind of fact → the fact in words, in the order in which a name states them."""


@dataclass(frozen=True)
class ShortNames:
    """Names of some things in rows, with the key that stands above a table."""

    names: Mapping[tuple[Any, ...], str]
    shared: str = ""
    """What all have in common; empty when the names are whole."""
    letters: Mapping[str, str] = field(default_factory=dict)
    """Letter → what it stands for."""

    @property
    def key(self) -> tuple[str, ...]:
        """Lines that stand above a table."""
        shared = (f"All rows: {self.shared}.",) if self.shared else ()
        return (*shared, *(f"{letter}: {name}" for letter, name in self.letters.items()))


def shorten(parts: Mapping[tuple[Any, ...], Parts], longest: int = LONGEST) -> ShortNames:
    """Name things by what differs between them.

    Args:
        parts: Identity of each thing → what makes up its name.
        longest: Names of more characters get letters.
    """
    kinds = list(dict.fromkeys(kind for found in parts.values() for kind in found))
    common = [kind for kind in kinds if len({found.get(kind) for found in parts.values()}) == 1]
    if len(parts) == 1:
        common = kinds[1:]
    names = {
        identity: ", ".join(fact for kind, fact in found.items() if kind not in common) or "plain"
        for identity, found in parts.items()
    }
    first = next(iter(parts.values()), {})
    shared = ", ".join(first[kind] for kind in common)
    if max(map(len, names.values()), default=0) <= longest:
        return ShortNames(names, shared)
    free = (letter for letter in map(_letter, count()) if letter not in names.values())
    letters = {name: next(free) for name in dict.fromkeys(names.values()) if len(name) > longest}
    short = {identity: letters.get(name, name) for identity, name in names.items()}
    return ShortNames(short, shared, {letter: name for name, letter in letters.items()})


def _letter(place: int) -> str:
    """A … Z, AA, AB, …: what spreadsheets call their columns."""
    head, rest = divmod(place, 26)
    return (_letter(head - 1) if head else "") + ascii_uppercase[rest]


def configuration_name(configuration: Mapping[str, Any]) -> str:
    """Name a configuration in full: "flow on cpu, float32, eager, batch 1"; what is not known is left out."""
    named = [f"{text(configuration['policy_id'])} on {text(configuration['hardware'])}"]
    named += [str(configuration[key]) for key in ("dtype", "compile") if known(configuration[key])]
    named += [f"batch {int(configuration['batch_size'])}"] if known(configuration["batch_size"]) else []
    return ", ".join(named)


def configuration_names(configurations: Iterable[Mapping[str, Any]]) -> ShortNames:
    """Short names of configurations; identities are those of `identity_of`."""
    rows = {identity_of(row): row for row in configurations}
    # An option that a column tells as well is left out, unless that would make two names one.
    told = {identity: _configuration_parts(row, _COLUMNS_OF_OPTIONS) for identity, row in rows.items()}
    if max(Counter(tuple(parts.items()) for parts in told.values()).values(), default=0) > 1:
        told = {identity: _configuration_parts(row) for identity, row in rows.items()}
    return shorten(told)


def identity_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The configuration of a row; unknown parts are None."""
    return tuple(row[name] if known(row[name]) else None for name in CONFIGURATION)


def _configuration_parts(row: Mapping[str, Any], left_out: Sequence[str] = ()) -> dict[str, str]:
    parts = _policy_parts(text(row["policy_id"]), left_out)
    parts["hardware"] = f"on {text(row['hardware'])}"
    parts |= {f"column {name}": str(row[name]) for name in ("dtype", "compile") if known(row[name])}
    return parts | ({"batch": f"batch {int(row['batch_size'])}"} if known(row["batch_size"]) else {})


def _policy_parts(policy: str, left_out: Sequence[str] = ()) -> dict[str, str]:
    path, _, query = policy.partition("?")
    options = (option for option in query.split("&") if option)
    return {"policy": path} | {name: option for option in options if (name := option.partition("=")[0]) not in left_out}


def decision_names(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], str]:
    """Names of decisions of one device for a sentence, and what all have in common where they are long.

    Args:
        rows: Configuration and NFE of each.
    """
    full = [", ".join(filter(None, _decision_parts(row).values())) for row in rows]
    if max(map(len, full), default=0) <= LONGEST_IN_SENTENCE or len(rows) < 2:
        return full, ""
    policies = [_policy_parts(text(row["policy_id"])) for row in rows]
    told = [own | {**_decision_parts(row), "policy": own["policy"]} for own, row in zip(policies, rows, strict=True)]
    short = shorten({(place,): {k: v for k, v in each.items() if v} for place, each in enumerate(told)}, longest=10_000)
    return [short.names[(place,)] for place in range(len(rows))], short.shared


def _decision_parts(row: Mapping[str, Any]) -> dict[str, str]:
    compiled = str(row["compile"]) if known(row["compile"]) and row["compile"] != "eager" else ""
    batch = f"batch {int(row['batch_size'])}" if known(row["batch_size"]) and row["batch_size"] != 1 else ""
    nfe = f"NFE {int(row['nfe'])}" if known(row["nfe"]) else ""
    return {"policy": text(row["policy_id"]), "nfe": nfe, "column compile": compiled, "batch": batch}


@dataclass(frozen=True)
class VariantNames:
    """Names of policies at their NFE, the same in all tables of a report."""

    short: ShortNames
    roles: Mapping[str, str]

    def of(self, row: Mapping[str, Any], policy: str = "policy_id", nfe: str = "nfe") -> str:
        """Name of a row's policy, with its clock where that is not the synchronous one."""
        return self.short.names[_variant_identity(row[policy], row[nfe], row.get("clock"), row.get("latency_source"))]

    def with_role(self, row: Mapping[str, Any]) -> str:
        """Name of a row's policy; a control is called one."""
        role = self.roles.get(row["policy_id"])
        return f"{self.of(row)} ({role} control)" if role else self.of(row)

    @property
    def key(self) -> tuple[str, ...]:
        """Lines above a table."""
        return self.short.key

    @property
    def spelled_out(self) -> VariantNames:
        """The same names without letters, for a sentence that stands where no key does."""
        names = {identity: self.short.letters.get(name, name) for identity, name in self.short.names.items()}
        return VariantNames(ShortNames(names, self.short.shared), self.roles)


def variant_names(summary: Summary) -> VariantNames:
    """Name the policies of a report: in full while that is short, else by what differs, else by a letter."""
    ledger = summary.ledger
    pairs = [
        tuple(pair)
        for frame in (ledger.episodes, ledger.decisions)
        for pair in frame[VARIANT].drop_duplicates().itertuples(index=False)
    ]
    # Some tables do not tell clocks apart: a policy has its plain name too, whatever clocks it was run under.
    plain = [(*pair[:2], SYNCHRONOUS, None) for pair in pairs]
    variants = {_variant_identity(*pair): pair for pair in (*pairs, *plain)}
    full = {identity: _variant_name(pair, summary) for identity, pair in variants.items()}
    roles = {str(policy): str(role) for policy, role in summary.roles.items()}
    if max(map(len, full.values()), default=0) <= LONGEST:
        return VariantNames(ShortNames(full), roles)
    return VariantNames(shorten({key: _variant_parts(pair, summary) for key, pair in variants.items()}), roles)


def _variant_identity(policy: Any, nfe: Any, clock: Any = None, source: Any = None) -> tuple[Any, ...]:
    clocked = str(clock) if known(clock) and clock != SYNCHRONOUS else None
    delayed = str(source) if known(source) else None
    return (str(policy) if known(policy) else None, int(nfe) if known(nfe) else None, clocked, delayed)


def _is_naive(pair: Sequence[Any], summary: Summary) -> bool:
    return known(pair[1]) and (str(pair[0]), int(pair[1])) in summary.naive


def _variant_name(pair: Sequence[Any], summary: Summary) -> str:
    """A policy at its NFE; a multi-step policy run with one step is called what it is."""
    name = variant(pair[0], pair[1])
    named = f"{name}, {NAIVE}" if _is_naive(pair, summary) else name
    return ", ".join((named, *_timing_parts(pair).values()))


def _timing_parts(pair: Sequence[Any]) -> dict[str, str]:
    """Clock and source of delays, where they are not the published protocol's."""
    if not known(pair[2]) or pair[2] == SYNCHRONOUS:
        return {}
    return {"clock": str(pair[2])} | ({"source": str(pair[3])} if known(pair[3]) else {})


def _variant_parts(pair: Sequence[Any], summary: Summary) -> dict[str, str]:
    naive = f", {NAIVE}" if _is_naive(pair, summary) else ""
    nfe = {"nfe": f"NFE {int(pair[1])}{naive}"} if known(pair[1]) else {}
    return _policy_parts(text(pair[0])) | nfe | _timing_parts(pair)
