"""What reads bytes that others wrote, and how sound bytes are damaged: for `test_fuzz.py` and `bench_fuzz.py`."""

from __future__ import annotations

import asyncio
import io
import json
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

import harness
from harness.errors import HarnessError
from harness.ledger.import_eval_info import import_eval_info
from harness.ledger.schema import SCHEMA_VERSION, TABLES
from harness.policies.openpi.client import _actions, _timing
from harness.policies.openpi.messages import Welcome, decode_welcome, encode_request, encode_welcome
from harness.policies.openpi.wire import pack, unpack
from harness.schedule.keys import decision_noise
from harness.serve.service import PolicyService
from harness.serve.sizing import BatchPlan
from harness.serve.websocket import OpenpiDialogue
from harness.spec.architecture import load_architecture
from harness.spec.observation import CAMERAS, ActionChunks, Observation, PolicyInfo
from harness.spec.profile import load_profile
from harness.spec.rules import load_rules
from harness.spec.suite import load_suite
from harness.time_source import WallTime

ROOT = Path(__file__).parents[1]
SPARE_BYTES = 64 * 2**20
"""A reader may take four times its input, and this."""
NASTY: list[Any] = [None, True, False, -1, 0, 2**31, 2**62, -(2**63), 0.5, float("nan"), float("inf"), "",
                    "\0", "a" * 2000,
                    "<script>alert(1)</script>", "../../etc/passwd", "{run_id}", [], {}, [[]], [None], {"": None},
                    [0] * 50, ["x", 1], {"a": {"b": {"c": []}}}, b"", b"\xff\xfe"]  # fmt: skip
"""Values that are put where a sound record has another one."""
PATHS = re.compile(r"(?<![\w:/.…])/(?:home|root|tmp|usr|work|var|etc)/")


@dataclass(frozen=True)
class Target:
    """A reader of foreign bytes."""

    sound: st.SearchStrategy[bytes]
    """Bytes of the right form, with values of any kind in them."""
    read: Callable[[Path, bytes], None]
    """Reads them, in an empty folder; raises a typed error or nothing."""


class Looks:
    """A policy of two cameras and noise."""

    info = PolicyInfo("looks", cameras=CAMERAS, chunk_length=2, noise_shape=(2, 7), nfe_options=(1, 4), default_nfe=1)

    def act(self, observations: Any, noise: Any, *, nfe: int | None = None) -> ActionChunks:
        return ActionChunks(np.zeros((len(observations), 2, 7), np.float32))


def places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a value of maps and lists, itself included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [before, *(place for key, one in inner for place in places(one, (*before, key)))]


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at a place."""
    if not place:
        return new
    head, *rest = place
    if isinstance(value, dict):
        return {**value, head: replaced(value[head], tuple(rest), new)} if head in value else value
    if isinstance(value, list) and isinstance(head, int) and head < len(value):
        return [*value[:head], replaced(value[head], tuple(rest), new), *value[head + 1 :]]
    return value


def mutants(record: Any, encode: Callable[[Any], bytes], nasty: list[Any] = NASTY) -> st.SearchStrategy[bytes]:
    """A record in which up to three places hold something else, as bytes."""
    edits = st.lists(st.tuples(st.sampled_from(places(record)), st.sampled_from(nasty)), max_size=3)

    def build(changes: list[tuple[tuple[Any, ...], Any]]) -> bytes:
        changed = record
        for place, new in changes:
            changed = replaced(changed, place, new)
        return encode(changed)

    return edits.map(build)


def damaged(sound: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """The same, or cut off, or with some bytes replaced, or nothing but noise."""
    spots = st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=6)), min_size=1, max_size=4)

    def overwrite(raw: bytes, edits: list[tuple[int, bytes]]) -> bytes:
        for where, new in edits:
            where %= len(raw) + 1
            raw = raw[:where] + new + raw[where + len(new) :]
        return raw

    cut = st.tuples(sound, st.integers(0, 4000)).map(lambda pair: pair[0][: pair[1]])
    return sound | cut | st.builds(overwrite, sound, spots) | st.binary(max_size=64)


def _text(values: list[Any]) -> list[Any]:
    return [value for value in values if not isinstance(value, bytes)]


def _yaml(folder: str, name: str, load: Callable[[str], Any]) -> Target:
    record = yaml.safe_load((ROOT / folder / f"{name}.yaml").read_text())

    def read(root: Path, raw: bytes) -> None:
        path = root / "file.yaml"
        path.write_bytes(raw)
        load(str(path))

    return Target(mutants(record, lambda value: yaml.safe_dump(value).encode(), _text(NASTY)), read)


def _eval_info() -> Target:
    task = {"task_group": "s", "task_id": 0, "metrics": {"successes": [True, 0], "video_paths": ["a.mp4"]}}
    record = {"per_task": [task], "overall": {"pc_success": 50.0, "n_episodes": 2}}

    def read(root: Path, raw: bytes) -> None:
        (root / "eval_info.json").write_bytes(raw)
        import_eval_info(root / "eval_info.json", root / "ledger")

    return Target(mutants(record, lambda value: json.dumps(value).encode(), _text(NASTY)), read)


def _parquet(value: Any) -> bytes:
    """A part: columns of whatever type the values have, under whatever schema version is stated."""
    rows, version = value if isinstance(value, list) and len(value) == 2 else ([], "x")
    columns: dict[str, Any] = {}
    for name, one in rows.items() if isinstance(rows, dict) else ():
        try:
            columns[str(name)] = pa.array([one])
        except (pa.ArrowException, OverflowError):
            continue
    sink = io.BytesIO()
    table = pa.table(columns).replace_schema_metadata({b"vla_harness.schema_version": str(version).encode()})
    try:
        pq.write_table(table, sink)
    except pa.ArrowException:
        return b"PAR1"
    return sink.getvalue()


def _ledger() -> Target:
    row = {"run_id": "r", "episode_key": "k", "protocol_sha256": "p", "suite": "s", "task_id": 0, "policy_id": "x",
           "outcome": "success", "success": True, "attempt": 1, "nfe": 1, "video": "videos/a.mp4"}  # fmt: skip

    def read(root: Path, raw: bytes) -> None:
        for table in ("episodes", "runs"):
            (root / table).mkdir()
            (root / table / "part-a.parquet").write_bytes(raw)
        ledger = harness.read(root)
        for table in TABLES:
            getattr(ledger, table)

    return Target(mutants([row, SCHEMA_VERSION], _parquet, _text(NASTY)), read)


def _question() -> Any:
    seen = Observation(
        "wave", np.zeros(8, np.float32), dict.fromkeys(CAMERAS, np.zeros((2, 2, 3), np.uint8)), episode_key="e"
    )
    noise = decision_noise("ab" * 32, 0, (2, 7))
    # As a server of openpi would see it, so that places inside of arrays can be changed as well.
    return msgpack.unpackb(pack(encode_request(seen, noise, 1, number=1, extended=True)))


def _server() -> Target:
    def read(root: Path, raw: bytes) -> None:
        async def ask() -> None:
            service = PolicyService(Looks(), BatchPlan(1, 0.0), clock=WallTime(), hardware=None)
            conversation = service.join()
            try:
                answer = await OpenpiDialogue(service, conversation).reply(raw)
            finally:
                service.close()
            if isinstance(answer, str):
                assert not PATHS.search(answer), answer
                assert "\n" not in answer
                raise HarnessError(answer)

        asyncio.run(ask())

    return Target(mutants(_question(), msgpack.packb), read)


def _client() -> Target:
    welcome = msgpack.unpackb(pack(encode_welcome(Welcome(Looks.info, False, {"warnings": ["x"]}))))
    assert set(welcome["harness"]["info"]) == set(asdict(Looks.info))

    def read(root: Path, raw: bytes) -> None:
        found = decode_welcome(unpack(raw, sender="The server"), sender="The server")
        if found is not None and found.info.noise_shape is not None:
            decision_noise("ab" * 32, 0, found.info.noise_shape)

    return Target(mutants(welcome, msgpack.packb), read)


def _answer() -> Target:
    said = {"actions": np.zeros((2, 7), np.float32), "server_timing": {"infer_ms": 1.0}, "harness": {"batch_size": 1}}

    def read(root: Path, raw: bytes) -> None:
        answer = unpack(raw, sender="The server")
        _actions(answer, 2, "The server")
        _timing(answer, 3.0)

    return Target(mutants(msgpack.unpackb(pack(said)), msgpack.packb), read)


TARGETS: dict[str, Target] = {
    "suite": _yaml("suites", "smoke", load_suite),
    "gate rules": _yaml("gates", "nightly", load_rules),
    "hardware profile": _yaml("hardware_profiles", "a100-sxm-80gb", load_profile),
    "architecture": _yaml("architectures", "student-650m", load_architecture),
    "eval_info.json": _eval_info(),
    "ledger": _ledger(),
    "question to a server": _server(),
    "welcome to a client": _client(),
    "answer to a client": _answer(),
}


def check(name: str, raw: bytes, folder: Path) -> str | None:
    """Read bytes with one reader.

    Returns:
        The class of the typed error that it raised; None when it read them.

    Raises:
        Exception: Any other error of the reader's.
        AssertionError: It took too much memory.
    """
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        TARGETS[name].read(folder, raw)
        told = None
    except HarnessError as error:
        told = type(error).__name__
    finally:
        taken = tracemalloc.get_traced_memory()[1] - before
        if not running:
            tracemalloc.stop()
    assert taken < 4 * len(raw) + SPARE_BYTES, f"{name} took {taken / 2**20:.0f} MiB for {len(raw)} bytes"
    return told
