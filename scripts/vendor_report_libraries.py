"""Fetch the JavaScript libraries that the report page holds, by version and hash, with their licences.

Run it after changing `PACKAGES`: `python scripts/vendor_report_libraries.py`. It needs npm; nothing of it is run.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

TARGET = Path(__file__).parents[1] / "harness" / "report" / "vendor"

PACKAGES = {
    "plotly.js-basic-dist-min@4.1.1": (
        "ea907f854b6cec4f6a2fa71540ec019a21ed2c61e6a109ddd5c072103a96eed0",
        {"plotly-basic.min.js": "plotly-basic.min.js", "LICENSE": "plotly.LICENSE"},
    ),
    "tabulator-tables@6.5.3": (
        "a3aeb833e5cf924c8a686fa6748c1070c5fde8e605e0b1734000c35b78571a9b",
        {
            "dist/js/tabulator.min.js": "tabulator.min.js",
            "dist/css/tabulator_simple.min.css": "tabulator.min.css",
            "LICENSE": "tabulator.LICENSE",
        },
    ),
    "sortable-tablesort@4.1.7": (
        "1e573df2ff184a6a25f975caf38b783259f7c2b9ac2971325126a8b1cb414d71",
        {
            "dist/sortable.min.js": "sortable.min.js",
            "dist/sortable.a11y.min.js": "sortable.a11y.min.js",
            "LICENSE": "sortable.LICENSE",
        },
    ),
}
"""Package and version → SHA-256 of its archive, and which of its files become which of ours."""


def main() -> None:
    """Fetch every package, compare its hash, and write its files."""
    TARGET.mkdir(exist_ok=True)
    for package, (expected, files) in PACKAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            (archive,) = Path(folder).glob("*.tgz")
            found = hashlib.sha256(archive.read_bytes()).hexdigest()
            if found != expected:
                sys.exit(f"{package}: SHA-256 {found}, expected {expected}. Look at what changed before you accept it.")
            with tarfile.open(archive) as content:
                for member, name in files.items():
                    read = content.extractfile(f"package/{member}")
                    if read is None:
                        sys.exit(f"{package} holds no file {member!r}.")
                    lines = read.read().decode("utf-8").splitlines()
                    kept = [
                        line for line in lines if not line.startswith(("//# sourceMappingURL", "/*# sourceMapping"))
                    ]
                    (TARGET / name).write_text("\n".join(kept) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
