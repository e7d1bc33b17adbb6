"""Checkpoints on the driver's disk, brought to nodes that lack them: by content, once per node, within a limit."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import PolicyError, UsageError
from harness.policies.base import Policy
from harness.policies.flow.shipped import DEFAULT, find_checkpoint, shipped
from harness.policies.lerobot.hub import looks_local
from harness.policies.uri import KINDS, LIMIT_GB, LIMIT_VARIABLE, is_uri
from harness.sim.disk_cache import open_cache
from harness.spec.policy import PolicySpec
from harness.spec.resolve import PACKAGE

if TYPE_CHECKING:
    from harness.cluster.ray_session import RaySession
    from harness.schedule.placement import NodeResources

BLOCK = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Parcel:
    """A folder of weights as the driver has it."""

    path: str
    """The folder, absolute, without links."""
    sha256: Mapping[str, str]
    """File → digest of its contents."""
    size: int
    """Bytes of all files."""
    checkpoint: str
    """How ledgers name it."""
    shipped: bool = False
    """Whether it comes with the harness beside the package, as in a clone: nodes get the package alone."""
    blocks: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """File → what stands for its contents, in order; empty until `filled`."""

    @property
    def key(self) -> str:
        """Digest of the whole, by which nodes keep it."""
        return hashlib.sha256(repr(sorted(self.sha256.items())).encode()).hexdigest()

    def is_at(self, folder: Path) -> bool:
        """Whether a folder holds exactly these contents."""
        try:
            return all(_digest(folder / name) == digest for name, digest in self.sha256.items())
        except OSError:
            return False

    def filled(self, put: Callable[[bytes], Any]) -> Parcel:
        """The same with its contents.

        Args:
            put: Takes a block of bytes and returns what stands for it.
        """
        return replace(self, blocks={name: tuple(map(put, _blocks(Path(self.path, name)))) for name in self.sha256})

    def place(self, get: Callable[[Any], bytes]) -> str:
        """The folder of this node with the contents: the driver's path where it holds them, else what was sent.

        Raises:
            PolicyError: See `unpack`.
        """
        return self.path if self.is_at(Path(self.path)) else str(self.unpack(get))

    def unpack(self, get: Callable[[Any], bytes]) -> Path:
        """A folder of this node with the contents: kept from an earlier time, or written now.

        Args:
            get: From what stands for a block to its bytes.

        Raises:
            PolicyError: What arrived is not what was sent, or the disk does not take it.
        """

        def write(folder: Path) -> None:
            for name, refs in self.blocks.items():
                with (folder / name).open("wb") as sink:
                    for ref in refs:
                        sink.write(get(ref))

        cache = open_cache("checkpoints")
        if cache is not None:
            if (kept := cache.get(self.key)) is None:
                cache.put(self.key, write)
                kept = cache.get(self.key)
            if kept is not None and self.is_at(kept):
                return kept
        folder = Path(tempfile.mkdtemp(prefix="harness-checkpoint-"))
        try:
            write(folder)
        except OSError as error:
            raise PolicyError(
                f"The checkpoint {self.path} ({self.size / 1e9:.2f} GB) cannot be kept under {folder} "
                f"({error.strerror}); free some space, or set TMPDIR or VLA_HARNESS_CACHE."
            ) from error
        if not self.is_at(folder):
            raise PolicyError(f"The checkpoint {self.path} did not arrive as it was sent; start the run again.")
        return folder


def wrap(spec: PolicySpec) -> Parcel | None:
    """What a policy loads from the driver's disk; None where it loads nothing from there.

    Raises:
        PolicyError: A file cannot be read.
    """
    if spec.kind not in KINDS or is_uri(spec.kind, spec.path):
        return None
    if (own := _shipped(spec)) is not None:
        folder, checkpoint = own
    elif not spec.path or (spec.kind == "lerobot" and not looks_local(spec.path)):
        return None
    else:
        folder = Path(spec.path).expanduser().resolve()
        checkpoint = str(folder)
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        digests = {path.name: _digest(path) for path in files}
        size = sum(path.stat().st_size for path in files)
        return Parcel(str(folder), digests, size, checkpoint, own is not None) if files else None
    except (FileNotFoundError, NotADirectoryError):
        # A folder that only the nodes have.
        return None
    except OSError as error:
        raise PolicyError(f"The checkpoint {folder} cannot be read ({error.strerror}).") from error


def _shipped(spec: PolicySpec) -> tuple[Path, str] | None:
    """Folder and name of a checkpoint that lies beside the package; None of one inside it, which nodes get with it."""
    if spec.kind != "flow" or spec.options.get("weights") is not None:
        return None
    name = spec.path or DEFAULT
    if Path(name).is_dir() or name not in shipped():
        return None
    folder, checkpoint = find_checkpoint(name)
    return None if folder.is_relative_to(PACKAGE) else (folder, checkpoint)


def require_within_limit(parcel: Parcel, node: str, environ: Mapping[str, str]) -> None:
    """Refuse to send more than the limit.

    Raises:
        PolicyError: Names checkpoint, size, node, limit and remedy.
        UsageError: The limit in the environment is no number.
    """
    text = environ.get(LIMIT_VARIABLE, "")
    try:
        limit = float(text or LIMIT_GB)
    except ValueError:
        raise UsageError(f"{LIMIT_VARIABLE} is {text!r}, where a number of GB is expected.") from None
    if parcel.size > limit * 1e9:
        raise PolicyError(
            f"Node {node} has no {parcel.path}, which has {parcel.size / 1e9:.3g} GB; at most {limit:g} GB are sent. "
            f"Put it under the same path there, name it by its hub id, or set {LIMIT_VARIABLE}."
        )


def is_here(parcel: Parcel) -> bool:
    """Whether this node can load the contents without being sent them."""
    if parcel.is_at(Path(parcel.path)):
        return True
    cache = open_cache("checkpoints")
    return cache is not None and cache.get(parcel.key) is not None


def build_here(
    spec: PolicySpec, parcel: Parcel | None, build: Callable[[PolicySpec], Policy], get: Callable[[Any], bytes]
) -> Policy:
    """Build a policy from the driver's path where this node has those contents under it, else from what was sent.

    Args:
        spec: The policy, as the driver names it.
        parcel: Its weights; None for a policy that loads none from the driver's disk.
        build: Builds it.
        get: From what stands for a block of the parcel to its bytes.

    Raises:
        PolicyError: What arrived is not what was sent, or the disk does not take it.
    """
    if parcel is None:
        return build(spec)
    place = parcel.place(get)
    return build_at(spec, parcel.checkpoint, place, build)


def build_at(spec: PolicySpec, checkpoint: str, place: str, build: Callable[[PolicySpec], Policy]) -> Policy:
    """Build a policy from another folder of this node than the driver's, under the driver's name for it.

    Args:
        spec: The policy, as the driver names it.
        checkpoint: How ledgers name it.
        place: The folder here.
        build: Builds it.
    """
    policy = build(spec.model_copy(update={"path": place}))
    # Ledgers name the checkpoint as the driver does, on every node.
    named = policy.info.policy_id.replace(f":{place}", f":{spec.path}" if spec.path else "")
    policy.info = replace(policy.info, policy_id=named, checkpoint=checkpoint)
    return policy


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from iter(lambda: stream.read(BLOCK), b"")


def send_checkpoints(
    session: RaySession,
    nodes: Sequence[NodeResources],
    specs: Mapping[str, PolicySpec],
    places: Mapping[str, Collection[str]],
) -> dict[str, Parcel]:
    """Weights of the driver's disk for the policies that are built where they are not.

    Args:
        session: Connection to the Ray cluster.
        nodes: Its nodes.
        specs: Policy label → the policy, as the driver names it.
        places: Policy label → Ray's ids of the nodes that it is built on.

    Returns:
        Policy label → parcel, of those with weights on the driver's disk that are built on another node, or that come
        with the harness.

    Raises:
        PolicyError: A node lacks a checkpoint that is larger than the limit; or one cannot be read.
    """
    hosts = {node.node_id: node.host for node in nodes}
    parcels: dict[str, Parcel] = {}
    for label, ids in places.items():
        away = [node_id for node_id in dict.fromkeys(ids) if node_id != session.driver_node_id]
        if session.owned or not ids or (parcel := wrap(specs[label])) is None:
            continue
        # The driver's node, too, runs the package as it was sent.
        away = list(dict.fromkeys(ids)) if parcel.shipped else away
        if not away:
            continue
        ask = session.ray.remote(is_here)
        held = session.ray.get(
            [ask.options(num_cpus=0, scheduling_strategy=session.on(place)).remote(parcel) for place in away]
        )
        lacking = [place for place, has in zip(away, held, strict=True) if not has]
        for place in lacking:
            require_within_limit(parcel, hosts.get(place, place), os.environ)
        parcels[label] = parcel.filled(session.ray.put) if lacking else parcel
    return parcels
