"""Frames from a worker to a policy server of the same node: through memory that both map, not through Ray.

A decision's frames are some 400 kB, which Ray files as an object of its own, with a reference to count and to resolve.
Here the worker copies them into an anonymous file in memory and sends where they lie; the server reads them in place.
The memory is the worker's, and goes with it however it ends.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.spec.observation import Observation

ALIGNMENT = 64
PROOF = "proof"
MAX_OPEN = 256
"""Memories that a server keeps mapped; of more, the one unused for longest is given up."""

_serials = itertools.count()


@dataclass(frozen=True, slots=True)
class SharedFrames:
    """Where the frames of an observation lie."""

    pid: int
    fd: int
    serial: int
    """Which memory of that process: numbers of files are used again."""
    size: int
    """Bytes of it."""
    entries: tuple[tuple[str, tuple[int, ...], str, int], ...]
    """(camera, shape, dtype, offset) of each frame."""


class FrameWriter:
    """The worker's end: one memory, overwritten by each decision."""

    def __init__(self) -> None:
        """Nothing is mapped before the first observation."""
        self._fd, self._size, self._serial = -1, 0, -1
        self._memory: mmap.mmap | None = None

    def write(self, observation: Observation) -> tuple[Observation, SharedFrames | None]:
        """Take the frames out of an observation.

        Returns:
            The observation without its frames, and where they lie; as it came, and None, where there are none, it holds
            earlier ones, or this system has no such memory.
        """
        images = observation.images
        if not images or observation.history or not sys.platform.startswith("linux"):
            return observation, None
        entries, offset = [], 0
        for camera, frame in images.items():
            entries.append((camera, frame.shape, frame.dtype.str, offset))
            offset += -(-frame.nbytes // ALIGNMENT) * ALIGNMENT
        try:
            memory = self._open(offset)
        except OSError:
            return observation, None
        for (_, shape, dtype, at), frame in zip(entries, images.values(), strict=True):
            target: NDArray[Any] = np.ndarray(shape, dtype, buffer=memory, offset=at)
            np.copyto(target, frame)
        where = SharedFrames(os.getpid(), self._fd, self._serial, self._size, tuple(entries))
        return replace(observation, images={}), where

    def write_proof(self, proof: bytes) -> SharedFrames | None:
        """Write something that only this process knows, for a reader to prove that it can read; see `write`."""
        frame = np.frombuffer(proof, np.uint8)
        _, where = self.write(Observation("", np.zeros(0, np.float32), images={PROOF: frame}))
        return where

    def renew(self) -> None:
        """Write elsewhere from now on: somebody may still be reading what was written."""
        if self._fd >= 0:
            os.close(self._fd)
        # Whoever maps it keeps it.
        self._fd, self._size, self._memory = -1, 0, None

    def _open(self, size: int) -> mmap.mmap:
        if self._memory is None or self._size < size:
            self.renew()
            self._fd = os.memfd_create("vla-harness-frames")
            self._size, self._serial = size, next(_serials)
            os.ftruncate(self._fd, size)
            self._memory = mmap.mmap(self._fd, size)
        return self._memory


class FrameReader:
    """The server's end: frames where they lie, read only."""

    def __init__(self) -> None:
        """Nothing is mapped yet."""
        self._open: OrderedDict[tuple[int, int], mmap.mmap] = OrderedDict()

    def read(self, observation: Observation, where: SharedFrames | None) -> Observation:
        """Put the frames back into an observation.

        Raises:
            OSError: The worker is gone, or its memory cannot be opened.
        """
        if where is None:
            return observation
        memory = self._map(where)
        images: Mapping[str, NDArray[np.uint8]] = {
            camera: np.ndarray(shape, dtype, buffer=memory, offset=offset)
            for camera, shape, dtype, offset in where.entries
        }
        return replace(observation, images=images)

    def peek(self, where: SharedFrames) -> bytes | None:
        """What `FrameWriter.write_proof` wrote; None where it cannot be read, e.g. on another machine."""
        try:
            return self.read(Observation("", np.zeros(0, np.float32)), where).images[PROOF].tobytes()
        except (OSError, ValueError):
            return None

    def _map(self, where: SharedFrames) -> mmap.mmap:
        key = where.pid, where.serial
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        # A worker has one memory at a time: what it wrote to before is not read again.
        for other in [each for each in self._open if each[0] == where.pid]:
            del self._open[other]
        fd = os.open(f"/proc/{where.pid}/fd/{where.fd}", os.O_RDONLY)
        try:
            self._open[key] = mmap.mmap(fd, where.size, prot=mmap.PROT_READ)
        finally:
            with contextlib.suppress(OSError):
                os.close(fd)
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        return self._open[key]
