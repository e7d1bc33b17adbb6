"""Puts the scripts that build the documentation on the path."""

from __future__ import annotations

import pages  # noqa: F401
