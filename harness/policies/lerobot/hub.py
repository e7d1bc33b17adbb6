"""Where a checkpoint is: a local folder, or a hub repository pinned to the commit that was really served."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import NoPolicyError, PolicyError, UsageError
from harness.surroundings import free_bytes

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""What a checkpoint may need: configuration, weights, processor state, tokenizer."""

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
ADAPTER_FILE = "adapter_config.json"
NO_CHECKPOINT = (
    f"{{}} has no {CONFIG_FILE} with a policy type: it is no LeRobot checkpoint. Checkpoints of openpi are served by "
    "openpi (openpi://HOST:PORT) or converted first."
)
TRAIN_CONFIG_FILE = "train_config.json"
LFS_HEADER = b"version https://git-lfs.github.com/spec"
"""How the file begins that stands in for another where `git lfs` has not fetched it."""
ROOM_BYTES = 10**9
"""What has to stay free beside a download: a root partition without room takes the system along."""
LOOK_UP_S = 10.0
"""How long the hub may take to say whether a repository is there, seconds."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this machine's disk, and where it came from."""

    folder: Path
    asked: str
    """Repository id or path as the user wrote it."""
    served: str
    """Repository id that the hub answered with, or the absolute path."""
    revision: str | None = None
    """Commit, 40 hex digits; None for a local folder."""
    asked_revision: str | None = None
    weights_sha256: str | None = None
    """Digest of `model.safetensors` as the hub states it; None when it does not."""
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What ledgers record: REPOSITORY@COMMIT, or the absolute path."""
        return f"{self.served}@{self.revision}" if self.revision else self.served

    def json(self, name: str) -> dict[str, Any] | None:
        """Read one of the checkpoint's JSON files; None when it is absent.

        Raises:
            PolicyError: The file does not hold a JSON object.
        """
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            data = json.loads(path.read_text())
        except (ValueError, OSError) as error:
            raise PolicyError(f"{path} cannot be read as JSON ({error}); fetch the checkpoint again.") from error
        if not isinstance(data, dict):
            raise PolicyError(f"{path} holds a JSON {type(data).__name__}, not an object; fetch the checkpoint again.")
        return data


def looks_local(path: str) -> bool:
    """Whether a path can only mean a folder: it exists, or is not of the form NAME or OWNER/NAME."""
    repository = path.partition("@")[0]
    return Path(path).expanduser().exists() or path.startswith(("/", ".", "~")) or repository.count("/") > 1


def find_checkpoint(
    path: str,
    revision: str | None = None,
    *,
    redirect: str = "refuse",
    endpoint: str | None = None,
    cache_dir: Path | None = None,
) -> Checkpoint:
    """Find a checkpoint, downloading it when it is a hub id.

    Args:
        path: Local folder, or OWNER/NAME[@REVISION] on the hub.
        revision: Branch, tag or commit; overrides none given in `path`.
        redirect: "refuse" or "follow" a hub id that is answered by another repository.
        endpoint: Address of the hub; None for the configured one (`HF_ENDPOINT`).
        cache_dir: Folder of the hub cache; None for the configured one.

    Raises:
        UsageError: Two different revisions, or a revision of a local folder.
        PolicyError: No such folder, repository or revision; gated; redirected; no network and nothing cached.
    """
    if looks_local(path):
        return find_local(path, revision)
    repository, revision = _split(path, revision)
    return _from_hub(repository, revision, redirect, endpoint, cache_dir)


def find_local(path: str, revision: str | None = None) -> Checkpoint:
    """Find a checkpoint in a folder of this machine.

    Raises:
        UsageError: A revision, which a folder has none of.
        NoPolicyError: No such folder, or one that holds no checkpoint (names the one beneath it that does).
        PolicyError: Files that Git LFS has not fetched.
    """
    folder = Path(path).expanduser().resolve()
    if revision is not None:
        raise UsageError(f"lerobot:{path} is a local folder, which has no revision {revision!r}; remove it.")
    if folder.is_file():
        holder = folder.parent
        held = holder if (holder / CONFIG_FILE).is_file() else _beneath(holder) or _beneath(holder.parent) or holder
        raise NoPolicyError(f"{folder} is a file; a checkpoint is a folder, here lerobot:{held}")
    if not folder.is_dir():
        raise NoPolicyError(f"There is no checkpoint folder {folder}; give a folder, or OWNER/NAME for the hub.")
    if not (folder / CONFIG_FILE).exists():
        beneath = _beneath(folder)
        if beneath is not None:
            raise NoPolicyError(f"{folder} holds checkpoints, but is none itself; name one: lerobot:{beneath}")
        if not (folder / ADAPTER_FILE).exists():
            raise NoPolicyError(NO_CHECKPOINT.format(folder))
    _refuse_pointers(folder)
    return Checkpoint(folder, asked=path, served=str(folder))


def _beneath(folder: Path) -> Path | None:
    """The checkpoint that a training folder most likely stands for: its last one."""
    for pattern in ("pretrained_model", "last/pretrained_model", "checkpoints/last/pretrained_model"):
        if (folder / pattern / CONFIG_FILE).is_file():
            return folder / pattern
    steps = [*folder.glob("*/pretrained_model"), *folder.glob("checkpoints/*/pretrained_model")]
    held = [found for found in steps if (found / CONFIG_FILE).is_file()]
    return max(held, key=lambda found: (len(found.parent.name), found.parent.name), default=None)


def _refuse_pointers(folder: Path) -> None:
    for file in sorted(file for pattern in FILES for file in folder.glob(pattern) if file.is_file()):
        with file.open("rb") as opened:
            if opened.read(len(LFS_HEADER)) == LFS_HEADER:
                raise PolicyError(
                    f"{file} is a Git LFS pointer, not the file itself: run `git lfs install && git lfs pull` in "
                    f"{folder}, or give the hub's OWNER/NAME."
                )


def look_up(path: str, revision: str | None, redirect: str) -> None:
    """Ask the hub whether a repository is there, without downloading it.

    Raises:
        UsageError: Two different revisions, or no hub id at all.
        PolicyError: No such repository or revision; gated; redirected; no network and nothing cached.
    """
    from huggingface_hub import HfApi

    repository, revision = _split(path, revision)
    with _clear_errors(repository, revision):
        try:
            served = HfApi().model_info(repository, revision=revision, timeout=LOOK_UP_S, files_metadata=True)
        except Exception as error:
            if not _is_unreachable(error):
                raise
            _from_cache(repository, revision, None, None, error)
            return
    _judge_redirect(repository, served.id, redirect)
    _require_room(served, None)


def _require_room(served: ModelInfo, cache_dir: Path | None) -> None:
    """Refuse a download that would fill the disk of the hub's cache, before its first byte.

    Raises:
        PolicyError: Names the folder, what is needed and what is free.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    wanted = [file for file in served.siblings or () if any(fnmatch(file.rfilename, pattern) for pattern in FILES)]
    lacking = sum(
        file.size or 0
        for file in wanted
        if not isinstance(try_to_load_from_cache(served.id, file.rfilename, cache, served.sha), str)
    )
    free = free_bytes(cache)
    if lacking and lacking + ROOM_BYTES > free:
        raise PolicyError(
            f"{served.id!r} needs {(lacking + ROOM_BYTES) / 1e9:.1f} GB in the hub's cache, {cache} on "
            f"{platform.node()}, and {free / 1e9:.1f} GB are free there; nothing was downloaded. Free some, or point "
            "HF_HOME (or HF_HUB_CACHE) at another disk on that machine."
        )


def _split(path: str, revision: str | None) -> tuple[str, str | None]:
    repository, _, tagged = path.partition("@")
    if tagged and revision and tagged != revision:
        raise UsageError(f"lerobot:{path} names revision {tagged!r}, its options name {revision!r}; keep one.")
    return repository, tagged or revision


def _from_hub(
    repository: str, revision: str | None, redirect: str, endpoint: str | None, cache_dir: Path | None
) -> Checkpoint:
    from huggingface_hub import HfApi, snapshot_download

    with _clear_errors(repository, revision):
        try:
            served = HfApi(endpoint=endpoint).model_info(repository, revision=revision, files_metadata=True)
        except Exception as error:
            if not _is_unreachable(error):
                raise
            return _from_cache(repository, revision, endpoint, cache_dir, error)
        warnings = _judge_redirect(repository, served.id, redirect)
        _require_room(served, cache_dir)
        # By name, not by commit: the client then remembers what the name meant, for a day without a network. Its folder
        # is named after the commit it really fetched.
        folder = Path(
            snapshot_download(
                served.id, revision=revision, allow_patterns=list(FILES), endpoint=endpoint, cache_dir=cache_dir
            )
        )
    lfs = {file.rfilename: file.lfs.sha256 for file in served.siblings or () if file.lfs is not None}
    return Checkpoint(
        folder,
        asked=repository,
        served=served.id,
        revision=folder.name,
        asked_revision=revision,
        weights_sha256=lfs.get(WEIGHTS_FILE) if folder.name == served.sha else None,
        warnings=warnings,
    )


def _judge_redirect(asked: str, served: str, redirect: str) -> tuple[str, ...]:
    if asked == served:
        return ()
    if redirect == "refuse" and asked.lower() != served.lower():
        raise PolicyError(
            f"The hub answers {asked!r} with another repository, {served!r}: these may be other weights. "
            f"Ask for {served!r} itself, or add redirect=follow to accept it."
        )
    return (f"Asked for {asked!r}; the hub served {served!r}.",)


def _from_cache(
    repository: str, revision: str | None, endpoint: str | None, cache_dir: Path | None, cause: Exception
) -> Checkpoint:
    """Fall back on what an earlier run downloaded; the folder's name is its commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                repository,
                revision=revision,
                local_files_only=True,
                allow_patterns=list(FILES),
                endpoint=endpoint,
                cache_dir=cache_dir,
            )
        )
    except (LocalEntryNotFoundError, FileNotFoundError) as error:
        raise PolicyError(
            f"The hub cannot be reached ({first_line(cause)}) and {repository!r} is not in the cache. Connect, or "
            "download it elsewhere and give its folder, or use lerobot:TYPE?weights=random."
        ) from error
    warning = f"The hub could not be reached: {repository!r} comes from the cache, and a redirect was not looked for."
    return Checkpoint(
        folder,
        asked=repository,
        served=repository,
        revision=folder.name,
        asked_revision=revision,
        warnings=(warning,),
    )


def _is_unreachable(error: Exception) -> bool:
    """Whether the hub gave no answer at all (off, or HF_HUB_OFFLINE), as against a refusal."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    return isinstance(error, httpx.TransportError | OfflineModeIsEnabled) or (
        isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code >= 500
    )


@contextmanager
def _clear_errors(repository: str, revision: str | None) -> Iterator[None]:
    """Turn the hub's refusals into messages with a remedy."""
    from huggingface_hub import errors

    where = f"{repository!r}" + (f" at revision {revision!r}" if revision else "")
    try:
        yield
    except errors.GatedRepoError as error:
        raise PolicyError(
            f"{where} is gated: accept its terms at https://huggingface.co/{repository} and log in (`hf auth login`, "
            "or set HF_TOKEN)."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NoPolicyError(f"{where} does not exist: the repository has no such branch, tag or commit.") from error
    except errors.RepositoryNotFoundError as error:
        raise NoPolicyError(
            f"The hub has no repository {where}, or it is private: check the spelling, or log in (`hf auth login`, or "
            "set HF_TOKEN)."
        ) from error
    except errors.HFValidationError as error:
        raise UsageError(
            f"{repository!r} is neither a folder nor a hub id OWNER/NAME ({first_line(error)})."
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise PolicyError(f"{where} could not be downloaded ({first_line(error)}); try again.") from error


def first_line(error: BaseException) -> str:
    """First line of an error's message, for the inside of another message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def declared_version(train_config: Mapping[str, Any] | None, config: Mapping[str, Any]) -> str | None:
    """LeRobot version that a checkpoint declares, under any key that has been used; None when it declares none."""
    for source in (config, train_config or {}):
        for key in ("lerobot_version", "_lerobot_version", "version"):
            value = source.get(key)
            if isinstance(value, str):
                return value
    return None
