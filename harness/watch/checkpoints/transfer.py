"""Checkpoints to and from another disk or bucket: each file verified, nothing deleted, nothing overwritten."""

from __future__ import annotations

from dataclasses import replace

from harness.errors import LedgerError, NoPolicyError
from harness.ledger.copy import CopyResult, copy_files
from harness.ledger.storage import Location
from harness.watch.checkpoints.files import LocalTree, open_tree

SUMS = "SHA256SUMS"
"""Digests of what was pushed, in the format of `sha256sum -c`; lies beside it."""


def push(source: str, target: str) -> CopyResult:
    """Copy a folder of checkpoints to a folder or bucket, and note the digest of every file there.

    Links to folders (LeRobot's `last`) are left out: what they point to is copied itself.

    Args:
        source: Folder of one checkpoint or of many; path or URI.
        target: Folder or URI; made if missing.

    Raises:
        NoPolicyError: There is nothing at `source`.
        LedgerError: Reading or writing failed, or a copy does not read back as it was written.
        UsageError: One of the two lies inside the other.
    """
    result = _copy(source, target, {})
    there = _location(target)
    sums = _read_sums(target) | {name: sha for name, sha in result.sha256.items() if name not in result.differing}
    text = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    there.write_file(SUMS, text)
    return result


def pull(source: str, target: str) -> CopyResult:
    """Copy what was pushed back; a file that is no longer what was pushed is refused.

    Raises:
        NoPolicyError: There is nothing at `source`.
        LedgerError: A file is damaged there; reading or writing failed.
        UsageError: One of the two lies inside the other.
    """
    return _copy(source, target, _read_sums(source))


def _copy(source: str, target: str, expected: dict[str, str]) -> CopyResult:
    tree = open_tree(source)
    try:
        files = {file.path: file.size for file in tree.files("") if _is_kept(file.path)}
    except OSError as error:
        raise NoPolicyError(f"There is no checkpoint at {source} ({error.strerror or error}).") from error
    if "" in files:
        raise NoPolicyError(f"{source} is a file; name the folder of the checkpoint.")
    if lacking := sorted(set(expected) - set(files)):
        raise LedgerError(f"{source} no longer holds {lacking[0]}, which {SUMS} says was pushed; nothing was copied.")
    result = copy_files(_location(tree.label if isinstance(tree, LocalTree) else source), _location(target), files,
                        expected=expected)  # fmt: skip
    return replace(result, only_there=[name for name in result.only_there if name != SUMS])


def _is_kept(path: str) -> bool:
    return path != SUMS and not path.rpartition("/")[2].startswith(".")


def _location(path: str) -> Location:
    return replace(Location.of(path), noun="checkpoint", option="destination")


def _read_sums(place: str) -> dict[str, str]:
    try:
        with open_tree(place).open(SUMS) as stream:
            lines = stream.read().decode().splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(
            f"{place}/{SUMS} cannot be read ({error}); restore it, or move it away to do without."
        ) from error
    parts = [line.partition("  ") for line in lines if line]
    return {name: digest for digest, _, name in parts}
