"""Checkpoints by URI, e.g. `flow:s3://bucket/teacher`: fetched once per node, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from harness.errors import PolicyError
from harness.object_store import impatient, require_answer
from harness.surroundings import hub_cache

KINDS = ("flow", "lerobot")
"""Kinds whose path is a folder of weights."""
FOLDER = "vla-harness-uris"
"""Beside the checkpoints of the hub."""
LIMIT_VARIABLE = "VLA_HARNESS_CHECKPOINT_GB"
LIMIT_GB = 16.0
"""Most that is brought to a node for one policy; Pi0.5 in float32 has 14.5 GB."""
BLOCK = 16 * 2**20


def is_uri(kind: str, path: str | None) -> bool:
    """Whether a policy's path is a folder of weights on an object store."""
    return kind in KINDS and path is not None and "://" in path


def fetch(uri: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Bring the files of a folder here, unless that was done before and none has changed there since.

    Args:
        uri: Any that `pyarrow.fs` knows: `s3://`, `gs://`, `abfss://`, `file://`. Credentials and endpoint come from
            the store's own variables.
        environ: Environment: where the hub's checkpoints are kept, and the most that is fetched.

    Returns:
        A folder of this node with the same files.

    Raises:
        PolicyError: There is nothing, it cannot be read, it is larger than the limit, or the disk does not take it.
    """
    import pyarrow as pa
    import pyarrow.fs as pafs

    try:
        require_answer(uri, os.environ)
        store, root = pafs.FileSystem.from_uri(impatient(uri))
        listed = [each for each in store.get_file_info(pafs.FileSelector(root)) if each.type == pafs.FileType.File]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise PolicyError(f"The checkpoint {uri} cannot be read: {_line(error)}.") from error
    files = sorted((_name(uri, each.path), each.size, each.mtime_ns or 0, each.path) for each in listed)
    if not files:
        raise PolicyError(f"The checkpoint {uri} holds no file.")
    _require_within_limit(uri, sum(size for _, size, _, _ in files), environ)
    key = hashlib.sha256(repr((uri, [file[:3] for file in files])).encode()).hexdigest()
    place = hub_cache(environ) / FOLDER / key
    if not place.is_dir():
        try:
            _bring(store, [(name, path) for name, _, _, path in files], place)
        except (OSError, pa.ArrowException) as error:
            raise PolicyError(f"The checkpoint {uri} cannot be fetched to {place.parent}: {_line(error)}.") from error
    return place


def _bring(store: Any, files: Sequence[tuple[str, str]], place: Path) -> None:
    """Copy files into a folder that appears when it is whole; the first of several processes wins."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=place.parent))
    try:
        for name, path in files:
            with store.open_input_stream(path) as source, (partial / name).open("wb") as sink:
                while block := source.read(BLOCK):
                    sink.write(block)
        try:
            partial.rename(place)
        except OSError:
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _name(uri: str, path: str) -> str:
    name = PurePosixPath(path).name
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise PolicyError(f"The checkpoint {uri} holds a file {path!r}, which is no name of a file.")
    return name


def _require_within_limit(uri: str, size: int, environ: Mapping[str, str]) -> None:
    text = environ.get(LIMIT_VARIABLE, "")
    try:
        limit = float(text or LIMIT_GB)
    except ValueError:
        raise PolicyError(f"{LIMIT_VARIABLE} is {text!r}, where a number of GB is expected.") from None
    if size > limit * 1e9:
        raise PolicyError(
            f"The checkpoint {uri} has {size / 1e9:.3g} GB; at most {limit:g} GB are fetched. Raise {LIMIT_VARIABLE}."
        )


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
