"""LIBERO-Plus from a directory: a small tree of the layout of sylvestf/LIBERO-plus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.app import invoke
from harness.errors import UsageError
from harness.sim.libero_plus import BDDL_FILES, CATEGORIES, CLASSIFICATION, SIZES, read_plus
from harness.spec.perturbations import base_task, is_reworded, perturbation

BASE = "open_the_middle_drawer_of_the_cabinet"
VARIANTS = {
    f"{BASE}_table_1": "Background Textures",
    f"{BASE}_tb_7": "Background Textures",
    f"{BASE}_light_12": "Light Conditions",
    f"{BASE}_add_3": "Objects Layout",
    f"{BASE}_moved_level4_sample4": "Objects Layout",
    f"{BASE}_view_0_0_100_0_0_initstate_7": "Robot Initial States",
    f"{BASE}_view_0_-15_100_0_0_initstate_0": "Camera Viewpoints",
    f"{BASE}_view_0_0_100_0_0_initstate_0_noise_35": "Sensor Noise",
    f"{BASE}_language_4_view_0_0_100_0_0_initstate_0": "Language Instructions",
}


@pytest.fixture
def tree(tmp_path) -> Path:
    listed = [
        {"id": i, "name": name, "category": kind, "difficulty_level": 2}
        for i, (name, kind) in enumerate(VARIANTS.items())
    ]
    (tmp_path / CLASSIFICATION).parent.mkdir(parents=True)
    (tmp_path / CLASSIFICATION).write_text(json.dumps({"libero_goal": listed}))
    folder = tmp_path / BDDL_FILES / "libero_goal"
    folder.mkdir(parents=True)
    for name in (BASE, f"{BASE}_table_1", f"{BASE}_language_4"):
        words = "pull the drawer in the middle" if "language" in name else "Open the middle drawer"
        (folder / f"{name}.bddl").write_text(f"(define (problem x) (:language {words}) (:objects a - b))")
    return tmp_path


def test_published_sizes_add_up_to_the_10030_variants():
    assert sum(SIZES.values()) == sum(CATEGORIES.values()) == 10_030


def test_every_suffix_is_taken_off_and_base_names_stay():
    assert {base_task(name) for name in VARIANTS} == {BASE}
    for name in (BASE, "pick_up_the_black_bowl_from_table_center_and_place_it_on_the_plate", "turn_on_the_stove"):
        assert base_task(name) == name
    assert [is_reworded(name) for name in VARIANTS] == [False] * 8 + [True]


def test_sizes_leaks_and_instructions(tree):
    plus = read_plus(tree)
    assert (plus.sizes(), plus.categories()["Background Textures"]) == ({"libero_goal": 9}, 2)
    assert "libero_goal has 9 variants, published are 2591" in plus.differing()
    told = {each.name: each.leaked for each in plus.leaks()}
    assert told[f"{BASE}_light_12"] == "light 12"
    assert len(told) == 8
    assert {plus.instruction(each) for each in plus.leaks()} == {"open the middle drawer of the cabinet"}
    assert plus.instruction(plus.variants[-1]) == "pull the drawer in the middle"
    assert plus.missing() == []


def test_the_doctor_says_what_is_short_and_what_leaks(tree, capsys):
    assert invoke(["doctor", "--libero-plus", str(tree), "--json"]) == 0
    checks = {each["name"]: each for each in json.loads(capsys.readouterr().out)["checks"]}
    assert "libero_goal 9 of 2591" in checks["LIBERO-Plus suites"]["found"]
    assert "8 of 9 file names say what was changed" in checks["LIBERO-Plus instructions"]["found"]
    assert checks["LIBERO-Plus instructions"]["status"] == "warn"


def test_a_folder_that_is_none_is_told_so(tmp_path, capsys):
    with pytest.raises(UsageError, match=r"is no checkout of LIBERO-Plus: it lacks .*task_classification\.json"):
        read_plus(tmp_path)
    (tmp_path / CLASSIFICATION).parent.mkdir(parents=True)
    (tmp_path / CLASSIFICATION).write_text("[1]")
    assert invoke(["doctor", "--libero-plus", str(tmp_path)]) == 64
    assert "is no classification of LIBERO-Plus" in " ".join(capsys.readouterr().err.split())


def test_a_suite_of_libero_pro_says_what_it_changes():
    assert perturbation("libero_spatial_swap") == ("libero_spatial", "swap")
    assert perturbation("libero_10_with_mug") == ("libero_10", "with_mug")
    assert perturbation("libero_goal") is perturbation("metaworld_easy") is None
