"""Whether a checkpoint's files are whole, and a digest of what is in them, without loading a tensor."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import IO, Any

from harness.strict_json import read_object
from harness.watch.checkpoints.files import File

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".msgpack", ".ocdbt")
"""Endings of files that hold weights; `.ocdbt` is orbax (openpi)."""
WHOLE_BYTES = 64 * 2**20
"""Files up to this size are digested byte by byte."""
SAMPLE_BYTES = 4096
N_SAMPLES = 4096
MAX_HEADER_BYTES = 100 * 2**20
"""Limit of the safetensors format."""

Open = Callable[[str], IO[bytes]]


class BrokenCheckpointError(Exception):
    """A checkpoint that is not whole; the text says which file and why."""


def digest(files: Sequence[File], open_file: Open) -> str:
    """Check every weights file, and digest the checkpoint.

    Files of up to 64 MiB are read whole. Of larger safetensors files the header and the first 4 KiB of every tensor are
    read, of other large files 4,096 evenly spaced blocks: a training step changes nearly every number of the tensors
    that it trains, so this tells two checkpoints apart at a thousandth of the reading.

    Args:
        files: The checkpoint's files, sorted by path.
        open_file: Opens one by its path.

    Returns:
        64 hex digits: equal for equal contents under equal names, whatever the times of the files.

    Raises:
        BrokenCheckpointError: No weights, a truncated or damaged file, or a missing shard.
        OSError: A file cannot be read, or is gone.
    """
    if not any(file.path.endswith(WEIGHTS) for file in files):
        raise BrokenCheckpointError(f"has no weights (no file ending in {', '.join(WEIGHTS)})")
    present = {file.path for file in files}
    state = hashlib.sha256()
    for file in files:
        state.update(f"{file.path}\0{file.size}\0".encode())
        with open_file(file.path) as stream:
            header = _safetensors_header(file, stream) if file.path.endswith(".safetensors") else None
            if file.path.endswith(".safetensors.index.json"):
                _require_shards(file, stream, present)
            _feed(state, file, stream, header)
    return state.hexdigest()


def _safetensors_header(file: File, stream: IO[bytes]) -> dict[str, Any]:
    """Read a safetensors header, and require that the file is as long as it says."""
    prefix = stream.read(8)
    if len(prefix) < 8:
        raise BrokenCheckpointError(f"{file.path} is truncated: {file.size} bytes")
    (length,) = struct.unpack("<Q", prefix)
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise BrokenCheckpointError(f"{file.path} is no safetensors file (header of {length} bytes)")
    raw = stream.read(length)
    try:
        header: dict[str, Any] = read_object(raw) if len(raw) == length else {}
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        starts = _starts(header, length)
    except (ValueError, LookupError, TypeError) as error:
        raise BrokenCheckpointError(f"{file.path} has a damaged header ({error})") from error
    expected = 8 + length + max(ends, default=0)
    if len(raw) < length or file.size < expected:
        raise BrokenCheckpointError(f"{file.path} is truncated: {file.size:,} of {expected:,} bytes")
    return {"length": length, "starts": starts}


def _starts(header: dict[str, Any], length: int) -> list[int]:
    starts = [int(entry["data_offsets"][0]) for name, entry in header.items() if name != "__metadata__"]
    if any(start < 0 for start in starts):
        raise ValueError("an offset is negative")
    return sorted(8 + length + start for start in starts)


def _require_shards(file: File, stream: IO[bytes], present: set[str]) -> None:
    folder = file.path.rpartition("/")[0]
    try:
        shards = set(map(str, read_object(stream.read())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise BrokenCheckpointError(f"{file.path} is damaged ({error})") from error
    missing = sorted(shard for shard in shards if (f"{folder}/{shard}" if folder else shard) not in present)
    if missing:
        raise BrokenCheckpointError(f"{len(missing)} of {len(shards)} shards are missing, the first: {missing[0]}")


def _feed(state: Any, file: File, stream: IO[bytes], header: dict[str, Any] | None) -> None:
    stream.seek(0)
    if file.size <= WHOLE_BYTES:
        while block := stream.read(2**20):
            state.update(block)
        return
    if header is not None:
        state.update(stream.read(8 + header["length"]))
        starts = header["starts"]
    else:
        last = max(file.size - SAMPLE_BYTES, 0)
        starts = sorted({i * last // (N_SAMPLES - 1) for i in range(N_SAMPLES)})
    for start in starts:
        stream.seek(start)
        state.update(stream.read(SAMPLE_BYTES))
