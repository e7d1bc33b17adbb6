"""Bytes that others wrote end in a value or a typed error, in every reader; `bench_fuzz.py` looks for longer."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import TARGETS, Looks, check, damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import harness
from harness.errors import LedgerError, PolicyError
from harness.policies.openpi.messages import Welcome, decode_welcome, encode_welcome
from harness.policies.openpi.wire import pack, unpack
from harness.serve.service import complaint


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_bytes_end_in_a_value_or_a_typed_error(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check(name, data.draw(damaged(TARGETS[name].sound)), tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"noise_shape": [100_000, 100_000]}, "at most"),
        ({"chunk_length": 10**9}, "at most"),
        ({"chunk_length": 0}, "from 1"),
        ({"chunk_length": "2"}, "from 1"),
        ({"observation_steps": 10**6}, "at most"),
        ({"cameras": ["door"]}, "not LIBERO's"),
        ({"nfe_options": ["many"]}, "whole numbers"),
        ({"noise_shape": False}, "have to be lists"),
    ],
)
def test_a_server_cannot_make_its_client_draw_send_or_wait_without_bound(change: dict[str, object], told: str) -> None:
    said = msgpack.unpackb(pack(encode_welcome(Welcome(Looks.info))))
    assert decode_welcome(said, sender="x") is not None
    said["harness"]["info"].update(change)
    with pytest.raises(PolicyError, match=told):
        decode_welcome(said, sender="x")


def test_a_dtype_of_many_fields_is_not_even_parsed() -> None:
    array = {b"__ndarray__": True, b"data": b"", b"dtype": "<f4," * 100_000, b"shape": [0]}
    with pytest.raises(PolicyError, match="not a short text"):
        unpack(msgpack.packb({"a": array}), sender="x")


@pytest.mark.parametrize("shape", [["x" * 1000, 2**31], [2**31, b"x"], [-1], [True], "ab", None, [1] * 1000])
def test_a_shape_of_anything_but_lengths_is_refused_before_it_is_multiplied(shape: object) -> None:
    array = {b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": shape}
    with pytest.raises(PolicyError, match="an array whose shape"):
        unpack(msgpack.packb({"a": array}), sender="x")


def test_what_a_client_is_told_of_an_error_names_no_folder() -> None:
    try:
        Path("/root/secret/weights.bin").read_bytes()
    except OSError as error:
        told = complaint(error)
    assert told.startswith("FileNotFoundError: [Errno 2] No such file or directory: 'weights.bin' (")
    assert "/" not in told
    assert "openpi://robot:8000/x" in complaint(PolicyError("ask openpi://robot:8000/x\nagain"))
    assert complaint(PolicyError("ask\nagain")) == "ask again"


def test_a_part_of_a_billion_rows_in_a_few_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "latency").mkdir()
    rows = pa.table({"latency_ms": pa.array([1.0], pa.float64()).take(pa.array([0] * 200_001))})
    metadata = {b"vla_harness.schema_version": b"1"}
    pq.write_table(rows.replace_schema_metadata(metadata), tmp_path / "latency" / "part-a.parquet")
    with pytest.raises(LedgerError, match="200,001 rows in"):
        harness.read(tmp_path).latency  # noqa: B018
