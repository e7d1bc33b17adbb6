"""Videos of episodes in a page: linked where they lie, or carried by the page up to a size and copied beside it."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from harness.analysis.summary import Summary


@dataclass(frozen=True)
class Films:
    """Where a page finds its videos."""

    addresses: Mapping[str, str] = field(default_factory=dict)
    """Video as a ledger names it → its address in the page."""
    embedded: Mapping[str, str] = field(default_factory=dict)
    """Address → the video itself, a data: URI, of those that the page carries."""


def linked_films(summary: Summary, directory: Path | None) -> Films:
    """Link videos where they lie, relative to the page's folder; None links none.

    Args:
        summary: Of the ledger; only videos inside its folders are linked.
        directory: Folder of the page.
    """
    if directory is None:
        return Films()
    return Films({name: _relative(file, directory) for name, file in _files(summary)})


def carried_films(summary: Summary, page: Path | None, limit: int) -> Films:
    """Embed videos up to a size, those of failures first, and copy the others into a folder beside the page.

    Args:
        summary: Of the ledger.
        page: The page's file; None where it is no local one: what exceeds the limit is left out then.
        limit: Bytes of all embedded videos.
    """
    addresses: dict[str, str] = {}
    embedded: dict[str, str] = {}
    left = limit
    for name, file in _files(summary):
        size = file.stat().st_size
        if size <= left:
            left -= size
            addresses[name] = f"#film{len(embedded)}"
            embedded[addresses[name]] = f"data:video/mp4;base64,{base64.b64encode(file.read_bytes()).decode()}"
        elif page is not None:
            copy = page.parent / f"{page.stem}-videos" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            addresses[name] = _relative(copy, page.parent)
    return Films(addresses, embedded)


def _files(summary: Summary) -> Iterator[tuple[str, Path]]:
    """Videos that exist, in the order of the list of episodes: failures first."""
    for name in dict.fromkeys(map(str, summary.episode_list["video"].dropna())):
        if (file := _find(summary.ledger.paths, name)) is not None:
            yield name, file


def _find(roots: Sequence[str], name: str) -> Path | None:
    """A file of a ledger; None where there is none, or the name leads out of it: ledgers come from strangers too."""
    for root in roots:
        file = Path(root, name)
        if file.is_file() and Path(os.path.normpath(file)).is_relative_to(os.path.normpath(root)):
            return file
    return None


def _relative(file: Path, directory: Path) -> str:
    return quote(Path(os.path.relpath(file.absolute(), directory.absolute())).as_posix())
