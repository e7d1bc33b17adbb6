"""Which versions of LeRobot and transformers can be trusted with a score."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from harness.errors import PolicyError

TESTED = "0.6.1"
"""LeRobot version that the tests run."""
INSTALL = "pip install 'vla-harness[policies]' (lerobot==0.6.1, transformers>=5.4,<5.6)"


def installed_version(package: str) -> str | None:
    """Version of an installed package; None when it is absent."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def lerobot_fault(found: str | None) -> str | None:
    """Say why a LeRobot version cannot be used; None when it can."""
    if found is None:
        return "LeRobot is not installed"
    release = Version(found)
    if release < Version("0.5"):
        return f"LeRobot {found} keeps normalisation inside policies and has no processor pipelines"
    if release < Version("0.6"):
        return (
            f"LeRobot {found} scales Pi0.5's embeddings twice with transformers 5.4 and later (lerobot#3603: 0 % on "
            "LIBERO), and its LIBERO environment skips an init state after every success (lerobot#4273)"
        )
    if release >= Version("0.7"):
        return (
            f"LeRobot {found} is newer than 0.6, whose samplers and processors this adapter was read against (in "
            "November 2026, 0.6.1 was the newest on PyPI)"
        )
    return None


def transformers_fault(found: str | None) -> str | None:
    """Say why a transformers version cannot be used with LeRobot 0.6; None when it can."""
    if found is None:
        return "transformers is not installed"
    release = Version(found)
    if release < Version("5.4"):
        return (
            f"transformers {found} scales Gemma's embeddings outside the embedding layer, LeRobot 0.6 expects them "
            "scaled inside (since 5.4): Pi0 and Pi0.5 would score 0 % (lerobot#3603)"
        )
    if release >= Version("5.6.dev0"):
        return f"transformers {found} is outside LeRobot 0.6's range (>=5.4,<5.6)"
    return None


def check_versions(lerobot: str | None, transformers: str | None, accepted: str = "tested") -> tuple[str, ...]:
    """Refuse versions known to be wrong.

    Args:
        lerobot: Version found, see `installed_version`; None when absent.
        transformers: Likewise.
        accepted: "any": versions known to be wrong are warned of, not refused.

    Returns:
        Warnings: a version that is accepted but not the tested one.

    Raises:
        PolicyError: Names the version, the reason and what to install.
    """
    fault = lerobot_fault(lerobot) or transformers_fault(transformers)
    if fault is not None and accepted == "any" and lerobot is not None:
        return (f"{fault}. Accepted as asked (versions=any).",)
    if fault is not None:
        raise PolicyError(f"{fault}. Run {INSTALL}.")
    if lerobot != TESTED:
        return (f"LeRobot {lerobot} is accepted, but only {TESTED} is tested.",)
    return ()
