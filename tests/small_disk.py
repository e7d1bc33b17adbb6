"""A file system of its own that can run full, become read-only, and recover. Needs root on Linux."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


class SmallDisk:
    """A tmpfs at a folder."""

    def __init__(self, folder: Path) -> None:
        """Mount it at `folder`, which exists."""
        self.folder = folder
        _mount("-t", "tmpfs", "-o", "size=2g", "tmpfs", str(folder))

    def fill(self) -> None:
        """Shrink it to what it holds: nothing more can be written."""
        self._remount(lambda: f"size={shutil.disk_usage(self.folder).used // 1024 + 8}k")

    def make_read_only(self) -> None:
        """Refuse every write."""
        self._remount(lambda: "ro")

    def mend(self) -> None:
        """Let it be written again."""
        self._remount(lambda: "rw,size=2g")

    def close(self) -> None:
        """Unmount it, whoever still uses it."""
        subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)

    def _remount(self, options: Callable[[], str]) -> None:
        """Change it, which is refused while something grows or is being written there."""
        for _ in range(500):
            with contextlib.suppress(subprocess.CalledProcessError):
                _mount("-o", f"remount,{options()}", str(self.folder))
                return
            time.sleep(0.01)
        raise RuntimeError(f"{self.folder} cannot be changed")


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
