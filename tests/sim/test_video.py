"""Videos are whole files or none."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from harness.errors import SimulatorError
from harness.sim.video import FPS, VideoWriter

FRAME = np.zeros((64, 48, 3), np.uint8)


def frames(n: int) -> list[np.ndarray]:
    made = [FRAME.copy() for _ in range(n)]
    for number, frame in enumerate(made):
        frame[:, : number + 1] = 255
    return made


def test_a_video_holds_every_frame_at_twenty_a_second_in_h264(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "task_0.mp4"
    with VideoWriter(path) as video:
        for frame in frames(30):
            video.append(frame)
        assert not path.exists()
    assert imageio_ffmpeg.count_frames_and_secs(str(path)) == (30, pytest.approx(30 / FPS))
    meta = next(imageio_ffmpeg.read_frames(str(path)))
    assert meta["codec"] == "h264"
    assert meta["size"] == (48, 64)
    assert [entry.name for entry in path.parent.iterdir()] == ["task_0.mp4"]


def test_an_episode_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), VideoWriter(tmp_path / "x.mp4") as video:
        video.append(FRAME)
        _ = 1 // 0
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_frames_is_no_file(tmp_path: Path) -> None:
    assert VideoWriter(tmp_path / "x.mp4").close() is None
    assert list(tmp_path.iterdir()) == []


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    video = VideoWriter(tmp_path / "x.mp4")
    video.append(FRAME)
    with pytest.raises(SimulatorError, match="32×32 pixels in a video of 48×64"):
        video.append(np.zeros((32, 32, 3), np.uint8))
    video.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_encoder_is_named_with_the_remedy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['imageio_ffmpeg'] = None\n"
        "from harness.sim.video import VideoWriter\n"
        "from harness.errors import SimulatorError\n"
        "try: VideoWriter('x.mp4')\n"
        "except SimulatorError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "pip install 'vla-harness[sim]'" in done.stdout
