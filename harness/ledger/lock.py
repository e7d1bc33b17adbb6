"""One driver at a time: two that run the same plan into one ledger would both run what is missing."""

from __future__ import annotations

import fcntl
import os
from types import TracebackType

from harness.errors import LedgerError
from harness.ledger.storage import Location


class LedgerLock:
    """The lock of a ledger's directory; the system gives it back when the process ends, however it ends.

    Object stores have none, nor has every network file system: there nobody is refused.
    """

    def __init__(self, location: Location) -> None:
        """Point at a ledger; nothing is taken yet, for its directory may not be there."""
        self._location, self._held = location, -1

    def hold(self) -> None:
        """Take the lock, if there is a directory to take it of and it is not held already.

        Raises:
            LedgerError: Another process runs into this ledger.
        """
        if self._held >= 0 or not self._location.is_local:
            return
        try:
            place = os.open(self._location.root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(place)
            raise LedgerError(
                f"Another run is writing to {self._location.label!r}: both would run what it lacks. Wait for it or end "
                "it, then continue with --resume; or give another --out."
            ) from None
        except OSError:
            os.close(place)
            return
        self._held = place

    def __enter__(self) -> LedgerLock:
        """Take it, where there is something to take."""
        self.hold()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give it back."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
