"""Check that requirements.lock is what x86-64 and aarch64 machines install, without installing anything.

    python scripts/check_platforms.py            # both machines resolve to the lock, with a wheel for every package
    python scripts/check_platforms.py --table    # which extras have wheels where, as docs/install.md shows it

Resolves with uv against the package index, which takes seconds. Exit code 1: another version, or a package that would
be built from source. Where the index cannot be reached nothing is checked, and that is said.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
MACHINES = {"x86-64": "x86_64-manylinux_2_35", "aarch64": "aarch64-manylinux_2_35"}
"""Machine → platform of uv. glibc 2.35 is what JetPack 6 and Ubuntu 22.04 have."""
EXTRAS = ("", "cluster", "sim", "metaworld", "pusht", "policies", "servers", "all")
PURE = {"bddl", "docopt"}
"""Packages that are published as source alone, and need no compiler."""
COMPILED = {"pymunk"}
"""Packages that a C compiler builds where they have no wheel: of the extra `pusht` alone, which no robot needs."""
UNREACHABLE = re.compile(
    r"failed to fetch|dns error|error sending request|connect(ion)? (error|refused)", re.IGNORECASE
)


class UnreachableError(Exception):
    """The package index gave no answer."""


def resolve(platform: str, extra: str) -> list[dict[str, Any]]:
    """Packages that a platform installs of an extra, with their wheels.

    Raises:
        UnreachableError: The index gave no answer.
        SystemExit: The lock's versions do not resolve there; says why.
    """
    uv = subprocess.run([ROOT / "scripts" / "uv"], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pylock.toml"
        command = [uv, "pip", "compile", "--quiet", "--python-version", "3.12", "--python-platform", platform]
        command += ["-c", str(LOCK), "--no-emit-package", "vla-harness", *(["--extra", extra] if extra else [])]
        run = subprocess.run([*command, "pyproject.toml", "-o", out], cwd=ROOT, capture_output=True, text=True)
        if run.returncode and UNREACHABLE.search(run.stderr):
            raise UnreachableError(run.stderr.strip().splitlines()[-1])
        if run.returncode:
            raise SystemExit(f"requirements.lock does not resolve on {platform}:\n{run.stderr}")
        return list(tomllib.loads(out.read_text())["packages"])


def from_source(packages: list[dict[str, Any]], platform: str) -> list[str]:
    """Packages without a wheel that a platform can install."""
    machine = platform.partition("-")[0]

    def usable(wheel: dict[str, Any]) -> bool:
        name = wheel.get("name") or str(wheel["url"]).rpartition("/")[2]
        return name.endswith("-any.whl") or machine in name

    return [package["name"] for package in packages if not any(map(usable, package.get("wheels", ())))]


def locked() -> dict[str, str]:
    """Package → version in the lock."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ \\;\n]+)", LOCK.read_text(), re.MULTILINE))


def faults(machine: str) -> list[str]:
    """What is wrong with the lock on a machine, in sentences."""
    packages = resolve(MACHINES[machine], "all")
    found = {package["name"]: package["version"] for package in packages}
    lock = locked()
    said = [f"{name} {found[name]} is not in the lock" for name in sorted(set(found) - set(lock))]
    said += [f"{name} {lock[name]} of the lock is not needed" for name in sorted(set(lock) - set(found))]
    said += [f"{name} is {found[name]}, the lock has {lock[name]}" for name in sorted(set(found) & set(lock))
             if found[name] != lock[name]]  # fmt: skip
    built = sorted(set(from_source(packages, MACHINES[machine])) - PURE - COMPILED)
    return said + [f"{name} {found[name]} has no wheel and would be built from source" for name in built]


def table() -> str:
    """Extras × machines: packages, and those that are published as source alone."""
    lines = ["| extra | " + " | ".join(MACHINES) + " |", "| :--- |" + " :--- |" * len(MACHINES)]
    for extra in EXTRAS:
        cells = []
        for platform in MACHINES.values():
            packages = resolve(platform, extra)
            built = from_source(packages, platform)
            wheels = f"{len(packages) - len(built)} of {len(packages)} as wheels"
            cells.append(wheels + (f"; {', '.join(f'`{name}`' for name in built)} from source" if built else ""))
        lines.append(f"| {f'`{extra}`' if extra else 'none'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Check, or print the table."""
    try:
        if argv == ["--table"]:
            print(table())
            return 0
        said = [f"{machine}: {fault}" for machine in MACHINES for fault in faults(machine)]
    except UnreachableError as error:
        print(f"requirements.lock was NOT checked for other machines: the package index cannot be reached ({error})")
        return 0
    print("\n".join(said) or f"requirements.lock: {len(locked())} packages, the same on {' and '.join(MACHINES)}")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
