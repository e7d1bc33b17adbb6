"""Two drivers on one ledger: the second is refused, until the first is gone, however it went."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import LedgerError
from harness.ledger.lock import LedgerLock
from harness.ledger.storage import Location

HOLD = """
import sys
from harness.ledger.lock import LedgerLock
from harness.ledger.storage import Location
with LedgerLock(Location.of(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_is_refused_and_a_killed_one_stands_in_nobodys_way(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    with pytest.raises(LedgerError, match="Another run is writing to"), LedgerLock(Location.of(tmp_path)):
        pytest.fail("both hold it")
    first.kill()
    first.wait()
    with LedgerLock(Location.of(tmp_path)):
        pass


def test_it_is_given_back_and_taken_as_soon_as_there_is_a_directory(tmp_path: Path) -> None:
    place = Location.of(tmp_path / "led")
    with LedgerLock(place) as lock:
        assert not (tmp_path / "led").exists()
        (tmp_path / "led").mkdir()
        lock.hold()
        with pytest.raises(LedgerError, match="Another run"):
            LedgerLock(place).hold()
    with LedgerLock(place):
        assert list((tmp_path / "led").iterdir()) == []
