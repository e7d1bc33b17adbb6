"""Videos of episodes: H.264 in mp4, which every browser plays."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import SimulatorError

FPS = 20
"""Frames a second: one per control step at LIBERO's 20 Hz, so that a video runs in real time."""


class VideoWriter:
    """Writes frames to an mp4 file that appears under its name only when it is whole.

    Use as a context manager: a block that raises leaves no file.
    """

    def __init__(self, path: Path | str, *, fps: int = FPS) -> None:
        """Open a video; its size is that of the first frame.

        Args:
            path: Where the finished video goes; its folder is made.
            fps: Frames a second.

        Raises:
            SimulatorError: imageio-ffmpeg is not installed.
        """
        try:
            import imageio_ffmpeg
        except ImportError as error:
            raise SimulatorError(
                "Videos need imageio-ffmpeg: pip install 'vla-harness[sim]', or run with --video none."
            ) from error
        self._ffmpeg: Any = imageio_ffmpeg
        self.path = Path(path)
        self._part = self.path.with_name(f".{self.path.stem}.{os.getpid()}.mp4")
        self._fps = fps
        self._size: tuple[int, int] | None = None
        self._encoder: Generator[None, Any, None] | None = None

    def append(self, frame: NDArray[np.uint8]) -> None:
        """Add a frame, shape (H, W, 3), RGB.

        Raises:
            SimulatorError: The frame is of another size than the first, or the encoder failed.
        """
        height, width = frame.shape[:2]
        if self._size is None:
            self._size = (width, height)
            self._encoder = self._open(self._size)
        if (width, height) != self._size:
            raise SimulatorError(f"A frame of {width}×{height} pixels in a video of {self._size[0]}×{self._size[1]}.")
        assert self._encoder is not None  # noqa: S101
        try:
            self._encoder.send(np.ascontiguousarray(frame))
        except OSError as error:
            raise SimulatorError(f"The encoder of {self.path} failed: {error}") from error

    def close(self) -> Path | None:
        """Finish the video and give it its name; None when it has no frame."""
        if self._encoder is None:
            return None
        self._encoder.close()
        self._encoder = None
        os.replace(self._part, self.path)
        return self.path

    def discard(self) -> None:
        """Drop the unfinished video."""
        if self._encoder is not None:
            with contextlib.suppress(OSError):
                self._encoder.close()
            self._encoder = None
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the video, or drop it when the block raised."""
        if kind is None:
            self.close()
        else:
            self.discard()

    def _open(self, size: tuple[int, int]) -> Generator[None, Any, None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        encoder: Generator[None, Any, None] = self._ffmpeg.write_frames(
            str(self._part),
            size,
            fps=self._fps,
            codec="libx264",
            pix_fmt_out="yuv420p",
            quality=7,
            macro_block_size=2,
            ffmpeg_log_level="error",
        )
        encoder.send(None)
        return encoder
