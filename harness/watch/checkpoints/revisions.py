"""New revisions of a hub repository: each pinned by its commit, fetched, and submitted to a watch's outbox."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import NodeError, NoPolicyError, UsageError
from harness.strict_json import read_object
from harness.watch.checkpoints.weights import WEIGHTS
from harness.watch.training.outbox import new_submission, write_json, write_submission

SCHEME = "hf://"
FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""What of a repository a policy may need."""
SEEN = "revisions.json"
"""Commits that have been looked at; lies in the outbox."""


def repository_of(address: str) -> tuple[str, str]:
    """(OWNER/NAME, branch) of hf://OWNER/NAME[@BRANCH].

    Raises:
        UsageError: Another form.
    """
    name, _, branch = address.removeprefix(SCHEME).strip("/").partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise UsageError(f"{address!r} is no repository; write hf://OWNER/NAME, or hf://OWNER/NAME@BRANCH.")
    return name, branch or "main"


@dataclass
class Revisions:
    """The revisions of one branch, oldest first numbered from 1: the number stands for the training step."""

    repository: str
    branch: str
    outbox: Path
    say: Callable[[str], None]
    now_s: Callable[[], float]
    """Seconds since 1970."""
    examine: Callable[[str], str | None] = lambda folder: None
    """Why a fetched revision is not worth an evaluation; None where it is."""
    endpoint: str | None = None
    cache_dir: Path | None = None
    _seen: dict[str, str] | None = field(default=None, repr=False)
    """Commit → digest of its files' names and contents; empty for one that was only passed over."""

    def fetch(self) -> None:
        """Look for new commits and submit those that changed what a policy is made of.

        The first look takes the newest revision alone: what came before is history.

        Raises:
            NoPolicyError: There is no such repository or branch.
            NodeError: The hub cannot be reached, or a download failed; the next look tries again.
        """
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint)
        with _clear_errors(self.repository, self.branch):
            commits = [one.commit_id for one in api.list_repo_commits(self.repository, revision=self.branch)][::-1]
        first, seen = not self._read(), self._read()
        if first:
            seen |= dict.fromkeys(commits[:-1], "")
        for number, commit in enumerate(commits, 1):
            if commit not in seen:
                seen[commit] = self._take(api, number, commit, seen)
                self._write(seen)

    def _take(self, api: Any, number: int, commit: str, seen: dict[str, str]) -> str:
        with _clear_errors(self.repository, commit):
            info = api.model_info(self.repository, revision=commit, files_metadata=True)
        files = sorted(
            (file.rfilename, file.lfs.sha256 if file.lfs is not None else str(file.blob_id or file.size))
            for file in info.siblings or ()
            if any(Path(file.rfilename).match(pattern) for pattern in FILES)
        )
        name = f"{self.repository}@{commit[:12]} (revision {number})"
        digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
        if not any(file.endswith(WEIGHTS) for file, _ in files):
            self.say(f"{name}: holds no weights, passed over")
            return digest
        if same := next((other for other, had in seen.items() if had == digest), None):
            self.say(f"{name}: has the files of {same[:12]}, passed over")
            return digest
        self.say(f"{name}: fetching")
        folder = self._download(commit)
        if (reason := self.examine(folder)) is not None:
            self.say(f"{name}: not evaluated, {reason}")
            return digest
        write_submission(self.outbox, new_submission(folder, number, self.now_s()))
        return digest

    def _download(self, commit: str) -> str:
        from huggingface_hub import snapshot_download

        with _clear_errors(self.repository, commit):
            return str(
                snapshot_download(
                    self.repository,
                    revision=commit,
                    allow_patterns=list(FILES),
                    endpoint=self.endpoint,
                    cache_dir=self.cache_dir,
                )
            )

    def _read(self) -> dict[str, str]:
        if self._seen is None:
            try:
                held = read_object((self.outbox / SEEN).read_bytes())
            except FileNotFoundError:
                held = {}
            except (OSError, ValueError) as error:
                raise NodeError(
                    f"{self.outbox / SEEN} cannot be read ({error}); move it away to begin anew."
                ) from error
            self._seen = {str(commit): str(digest) for commit, digest in held.items()}
        return self._seen

    def _write(self, seen: dict[str, str]) -> None:
        try:
            self.outbox.mkdir(parents=True, exist_ok=True)
            write_json(self.outbox / SEEN, seen)
        except OSError as error:
            raise NodeError(f"Cannot write {self.outbox / SEEN} ({error.strerror}); free some space.") from error


@contextmanager
def _clear_errors(repository: str, revision: str) -> Iterator[None]:
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise NoPolicyError(
            f"The hub has no repository {repository!r} with a revision {revision!r}, or it is private: check the "
            "spelling, or log in (`hf auth login`, or set HF_TOKEN)."
        ) from error
    except (errors.HfHubHTTPError, httpx.HTTPError, OSError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise NodeError(f"The hub gave no answer about {repository} at {revision[:12]} ({said}).") from error
