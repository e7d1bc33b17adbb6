"""Whatever stands in a JSON file beside a ledger, reading it gives a value or a typed error, never a traceback."""

import io
import json
import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.analysis.origin import naive_single_steps, policy_records
from harness.doctor.expectations import read_expectations
from harness.errors import HarnessError, LedgerError, UsageError
from harness.gate.baseline import read_baselines
from harness.gate.early_stopping import read_stop_record
from harness.ledger.identities import differing_parts, stated_identities
from harness.ledger.import_eval_info import import_eval_info
from harness.ledger.reader import read_manifests
from harness.strict_json import read_json
from harness.watch.backlog.journal import Event, Journal, Kind, fold
from harness.watch.checkpoints.files import File
from harness.watch.checkpoints.weights import BrokenCheckpointError, digest
from harness.watch.training.outbox import read_results, read_submissions

STAMPED = "20260101T120000.000000Z-found-0000.json"
FOUND = {"format_version": 1, "kind": "found", "name": "c1", "step": 5, "lineage": 1, "written_ns": 7, "place": "/a",
         "digest": "d"}  # fmt: skip
BASELINE = {"format_version": 1, "ledger": "a", "name": "main", "suites": ["s"], "protocol": "p", "hardware": ["cpu"],
            "policy_id": None, "nfe": 1, "checkpoint": None, "accepted_at": "2026-01-01", "note": ""}  # fmt: skip
SUBMISSION = {"format_version": 1, "submission_id": "i", "checkpoint": "/c", "step": 3, "submitted_at": 1.5}
STOP = {"verdict": "FAIL", "rounds": 1, "episode_keys": ["k"]}
RESULT = {"per_task": [{"task_group": "s", "task_id": 0, "metrics": {"successes": [True, False], "video_paths": []}}],
          "overall": {"pc_success": 50.0, "n_episodes": 2}}  # fmt: skip
POLICIES = {"p": {"identity": {"weights": "w"}, "provenance": {"stored_nfe": 10}, "default_nfe": 10}}
PROBE = {"format": 1, "observations_sha256": "x", "policy_id": "p", "checkpoint_sha256": "c", "nfe": 1,
         "answers": {"well": [[0.0]]}}  # fmt: skip
HEADER = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


def put(path: Path, raw: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)


def journal(root: Path, raw: bytes) -> None:
    put(root / "watch/journal" / STAMPED, raw)
    fold(Journal(str(root)).read())


def baselines(root: Path, raw: bytes) -> None:
    put(root / "baselines/a.json", raw)
    read_baselines(root)


def stop_record(root: Path, raw: bytes) -> None:
    put(root / "stop.json", raw)
    if record := read_stop_record(root):
        assert all(isinstance(key, str) for key in record["episode_keys"])


def submissions(root: Path, raw: bytes) -> None:
    put(root / "submissions/a.json", raw)
    found, faults = read_submissions(root)
    assert len(found) + len(faults) == 1


def results(root: Path, raw: bytes) -> None:
    put(root / "results.json", raw)
    with suppress(ValueError):
        read_results(root)


def eval_info(root: Path, raw: bytes) -> None:
    put(root / "eval_info.json", raw)
    import_eval_info(root / "eval_info.json", root / "ledger")


def policies(root: Path, raw: bytes) -> None:
    del root
    text = raw.decode()
    stated = stated_identities([text, None])
    differing_parts(stated, stated)
    naive_single_steps(policy_records(pd.DataFrame({"policies": [text, None]})), [("p", 1)])


def manifests(root: Path, raw: bytes) -> None:
    del root
    assert all(isinstance(one, dict) for one in read_manifests(raw.decode()).values())


def expectations(root: Path, raw: bytes) -> None:
    put(root / "probe.json", raw)
    read_expectations(root)


def opened(name: str) -> IO[bytes]:
    return io.BytesIO(Path(name).read_bytes())


def weights(root: Path, raw: bytes) -> None:
    path = root / "model.safetensors"
    put(path, struct.pack("<Q", len(raw)) + raw + b"\0" * 8)
    digest([File(str(path), path.stat().st_size, 0)], opened)


def shards(root: Path, raw: bytes) -> None:
    put(root / "a.safetensors.index.json", raw)
    put(root / "a.bin", b"1")
    files = [File(str(path), path.stat().st_size, 0) for path in sorted(root.iterdir()) if path.is_file()]
    digest(files, opened)


READERS: dict[str, tuple[Callable[[Path, bytes], None], Any]] = {
    "journal": (journal, FOUND),
    "baselines": (baselines, BASELINE),
    "stop record": (stop_record, STOP),
    "submissions": (submissions, SUBMISSION),
    "results": (results, {"episodes": 3}),
    "eval_info": (eval_info, RESULT),
    "policies": (policies, POLICIES),
    "manifests": (manifests, {"s": {"resolution": 256}}),
    "expectations": (expectations, PROBE),
    "weights": (weights, HEADER),
    "shards": (shards, {"weight_map": {"a": "a.bin"}}),
}
"""Reader → how a file is read with it, and a value that it takes."""

NASTY = [None, True, -1, 0.5, 10**400, 2**64, float("nan"), float("inf"), "", "\ud800", "\0", "x" * 3000, [], {}, [[]],
         {"a": None}, [None], ["a", 1]]  # fmt: skip


def read(name: str, root: Path, raw: bytes) -> None:
    """Read with one reader; every error but a typed one is a failure."""
    with suppress(HarnessError, BrokenCheckpointError):
        READERS[name][0](root, raw)


def places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [before, *(place for key, one in inner for place in places(one, (*before, key)))]


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """The value with something else at a place; `...`: with nothing there."""
    if not place:
        return new if new is not ... else {}
    copy = json.loads(json.dumps(value))
    parent = copy
    for key in place[:-1]:
        parent = parent[key]
    if new is ...:
        del parent[place[-1]]
    else:
        parent[place[-1]] = new
    return copy


@pytest.mark.parametrize("name", READERS)
def test_a_sound_record_is_read(name: str, tmp_path: Path) -> None:
    if name == "expectations":  # its observations are of another version: said so
        with pytest.raises(HarnessError, match="other observations"):
            READERS[name][0](tmp_path, json.dumps(PROBE).encode())
        return
    READERS[name][0](tmp_path, json.dumps(READERS[name][1]).encode())


@pytest.mark.parametrize("name", READERS)
def test_a_wrong_value_at_any_place_is_a_typed_error_or_harmless(name: str, tmp_path: Path) -> None:
    record = READERS[name][1]
    for number, place in enumerate(places(record)):
        some = NASTY[number % 4 :: 4] if name == "eval_info" else NASTY  # each of its reads writes a ledger
        for index, new in enumerate([..., *some]):
            read(name, tmp_path / f"{number}-{index}", json.dumps(changed(record, place, new)).encode())


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"[" * 300 + b"]" * 300, b"NaN",
     b"9" * 5000, b'{"episode_keys": 1e999}', b'"\\ud800"'],
    ids=["empty", "cut off", "nested lists", "nested objects", "nested", "NaN", "digits", "infinite", "surrogate"],
)  # fmt: skip
def test_no_text_breaks_a_reader(name: str, raw: bytes, tmp_path: Path) -> None:
    read(name, tmp_path, raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["found", "p"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FOUND, *BASELINE, "per_task", "metrics", "answers"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(value=JSON)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_value_is_a_typed_error_or_harmless(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    raw = json.dumps(value).encode()
    for name in READERS:
        read(name, tmp_path_factory.mktemp("fuzz"), raw)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"step": float("inf")}, "Infinity"), ({"step": "5"}, 'step is "5"'), ({"step": 2**70}, "64 bits"),
     ({"digest": None}, "digest is null"), ({"kind": "eaten"}, "eaten")],
)  # fmt: skip
def test_a_faulty_event_is_named_with_its_fault(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    put(tmp_path / "watch/journal" / STAMPED, json.dumps(FOUND | change).encode())
    with pytest.raises(LedgerError, match=said) as caught:
        Journal(str(tmp_path)).read()
    assert STAMPED in str(caught.value)


def test_a_found_event_without_its_keys_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "watch/journal" / STAMPED, b'{"format_version": 1, "kind": "found", "name": "c"}')
    with pytest.raises(LedgerError, match="it has no step"):
        Journal(str(tmp_path)).read()


def test_a_foreign_file_in_the_journal_is_named(tmp_path: Path) -> None:
    Journal(str(tmp_path)).append(Event(Kind.FOUND, "c", {**FOUND}), datetime(2026, 1, 1, tzinfo=UTC))
    put(tmp_path / "watch/journal/zz-notes.json", json.dumps(FOUND).encode())
    with pytest.raises(LedgerError, match=r"zz-notes\.json"):
        Journal(str(tmp_path)).read()


def test_a_baseline_with_a_text_for_its_suites_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "baselines/a.json", json.dumps(BASELINE | {"suites": "libero_goal"}).encode())
    with pytest.raises(LedgerError, match='suites is "libero_goal", where a list of texts is expected'):
        read_baselines(tmp_path)


def test_a_stop_record_without_its_episodes_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "stop.json", b'{"verdict": "FAIL"}')
    with pytest.raises(LedgerError, match="episode_keys"):
        read_stop_record(tmp_path)


def test_a_rate_of_four_hundred_digits_is_said_not_raised(tmp_path: Path) -> None:
    put(tmp_path / "e.json", json.dumps(changed(RESULT, ("overall", "pc_success"), 10**400)).encode())
    with suppress(UsageError):
        assert import_eval_info(tmp_path / "e.json", tmp_path / "ledger").warnings


def test_depth_is_bounded_where_the_parser_itself_is_not() -> None:
    assert read_json("[" * 60 + "]" * 60)
    with pytest.raises(ValueError, match="deeper than 64"):
        read_json("[" * 70 + "]" * 70)


def test_a_key_that_stands_twice_is_named_not_overwritten() -> None:
    with pytest.raises(ValueError, match='the key "a" twice'):
        read_json('{"b": [{"a": 1, "a": 2}]}')
