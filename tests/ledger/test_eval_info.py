"""LeRobot's eval_info.json, in and out: nothing invented, nothing lost that has a place."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.analysis.paired.compare import compare
from harness.analysis.summary import Summary
from harness.cli.app import invoke
from harness.errors import LedgerError, UsageError
from harness.ledger import read
from harness.ledger.eval_info import export_eval_info, render_eval_info
from harness.ledger.import_eval_info import import_eval_info
from harness.report.opening import opening

NEW_FORM = {
    "per_task": [
        {
            "task_group": "libero_spatial",
            "task_id": task,
            "metrics": {
                "sum_rewards": [1.0, math.nan, 1.0],
                "max_rewards": [1.0, math.nan, 1.0],
                "successes": [True, False, task == 0],
                "video_paths": [f"/run/videos/libero_spatial_{task}/eval_episode_{n}.mp4" for n in range(2)],
                "predicted_video_paths": [],
            },
        }
        for task in range(2)
    ],
    "per_group": {"libero_spatial": {"pc_success": 50.0, "n_episodes": 6}},
    "overall": {"pc_success": 50.0, "avg_sum_reward": math.nan, "n_episodes": 6, "eval_s": 12.5, "video_paths": ["x"]},
}
OLD_FORM = {
    "per_episode": [
        {"episode_ix": n, "sum_reward": 1.0, "max_reward": 1.0, "success": n > 0, "seed": 1000 + n} for n in range(4)
    ],
    "aggregated": {"pc_success": 75.0, "eval_s": 3.0},
}


def save(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_the_form_of_today_becomes_episodes(tmp_path: Path) -> None:
    found = import_eval_info(save(tmp_path / "eval_info.json", NEW_FORM), tmp_path / "ledger", policy="pi05")
    assert (found.episodes, found.successes, found.unknown) == (6, 3, 0)
    ledger = read(tmp_path / "ledger")
    assert ledger.episodes["suite"].unique().tolist() == ["libero_spatial"]
    assert ledger.episodes["task_id"].tolist() == [0, 0, 0, 1, 1, 1]
    assert ledger.episodes["outcome"].value_counts().to_dict() == {"success": 3, "timeout": 3}
    videos = ledger.episodes["video"]
    assert videos[1] == "/run/videos/libero_spatial_0/eval_episode_1.mp4"
    assert videos.isna().tolist() == [False, False, True] * 2


def test_what_the_file_lacks_is_null(tmp_path: Path) -> None:
    import_eval_info(save(tmp_path / "eval_info.json", NEW_FORM), tmp_path / "ledger")
    episodes = read(tmp_path / "ledger").episodes
    for column in ("policy_id", "init_state_id", "steps", "wall_s", "hardware", "started_at", "checkpoint", "task"):
        assert episodes[column].isna().all(), column


def test_the_older_form_becomes_episodes_of_no_suite(tmp_path: Path) -> None:
    import_eval_info(save(tmp_path / "eval_info.json", OLD_FORM), tmp_path / "ledger")
    episodes = read(tmp_path / "ledger").episodes
    assert episodes["success"].tolist() == [False, True, True, True]
    assert episodes["suite"].isna().all()
    assert episodes["episode_key"].is_unique


def test_an_unknown_outcome_is_an_error_not_a_failure(tmp_path: Path) -> None:
    content = {"per_task": [{"task_group": "g", "task_id": 0, "metrics": {"successes": [True, None, None, 1.0]}}]}
    found = import_eval_info(save(tmp_path / "eval_info.json", content), tmp_path / "ledger")
    assert (found.successes, found.unknown) == (2, 2)
    titles = [notice.title for notice in opening(Summary(read(tmp_path / "ledger"))).notices]
    assert titles == ["2 of 4 episodes have an unknown outcome"]


def test_two_imports_pair_by_position(tmp_path: Path) -> None:
    worse = json.loads(json.dumps(NEW_FORM))
    worse["per_task"][0]["metrics"]["successes"][0] = False
    for name, content in (("a", NEW_FORM), ("b", worse)):
        import_eval_info(save(tmp_path / f"{name}.json", content), tmp_path / name)
    (success,) = compare(tmp_path / "a", tmp_path / "b").success
    assert (success.overall.counts.lost, success.overall.counts.gained, success.n) == (1, 0, 6)
    assert success.flips[0].candidate_video == "/run/videos/libero_spatial_0/eval_episode_0.mp4"


def test_the_wall_time_of_two_imports_is_their_eval_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seconds in (("ten", 220.0), ("one", 170.0)):
        content = {**NEW_FORM, "overall": {"eval_s": seconds}}
        import_eval_info(save(tmp_path / f"{name}.json", content), tmp_path / name)
    (success,) = compare(tmp_path / "ten", tmp_path / "one").success
    assert [(found.elapsed_s, found.imported, found.policy_share) for found in success.times] == [
        (220.0, True, None),
        (170.0, True, None),
    ]
    assert invoke(["compare", str(tmp_path / "ten"), str(tmp_path / "one"), "--markdown", "-"]) == 0
    out = capsys.readouterr().out
    assert "Elapsed, candidate / base: 0.773." in out
    assert "Failed in both: 3 episodes" in out


def test_an_import_is_never_paired_with_a_run_of_the_harness(tmp_path: Path, make_ledger: Any) -> None:
    import_eval_info(save(tmp_path / "eval_info.json", NEW_FORM), tmp_path / "ledger")
    with pytest.raises(UsageError, match=r"source: 'lerobot eval_info\.json' against None"):
        compare(tmp_path / "ledger", make_ledger("own", ["+++", "+++"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds a list"),
        ('{"overall": {}}', "neither `per_task` nor `per_episode`"),
        ('{"per_task": [{"task_id": 0}]}', "no metrics.successes"),
        ('{"per_episode": [3]}', r"per_episode\[0\] is 3"),
        ('{"per_episode": [{"episode_ix": 0}]}', r"per_episode\[0\] has no success"),
        ('{"per_task": [], "overall": {"n_episodes": 0}}', "holds no episodes"),
        ('{"per_task": [{"task_group": "g", "task_id": 0, "metrics": {"successes": []}}]}', "holds no episodes"),
        ('{"per_task": {"g": {"0": {"successes": [true]}}}}', "per_task is an object, where a list is expected"),
        ('{"per_task": [], "per_task": []}', 'has the key "per_task" twice'),
        ('{"per_task": [{"task_group": "g", "metrics": {"successes": [true]}}]}', r"per_task\[0\]\.task_id is null"),
        ('{"per_task": [{"task_id": 0, "metrics": {"successes": [true]}}]}', r"per_task\[0\]\.task_group is null"),
        ('{"a": {"per_task": []}, "b": {"per_task": []}}', "holds 2 results, under a, b"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "eval_info.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        import_eval_info(path, tmp_path / "ledger")
    assert not (tmp_path / "ledger").exists()


def task(task_id: object, successes: list[Any], suite: str = "libero_spatial") -> dict[str, Any]:
    return {"task_group": suite, "task_id": task_id, "metrics": {"successes": successes}}


@pytest.mark.parametrize("value", [0.2, 0.7, -1, 2, math.inf, math.nan, "true", [True]])
def test_a_success_that_is_no_truth_value_is_refused_with_its_place(tmp_path: Path, value: Any) -> None:
    path = save(tmp_path / "eval_info.json", {"per_task": [task(0, [True]), task(1, [True, value])]})
    with pytest.raises(UsageError, match=r"per_task\[1\]\.metrics\.successes\[1\] is .*no success"):
        import_eval_info(path, tmp_path / "ledger")


@pytest.mark.parametrize(("at", "successes"), [(0.2, 4), (0.7, 3), (1.0, 2)])
def test_scores_are_read_where_the_user_says_from_where_on_they_are_successes(
    tmp_path: Path, at: float, successes: int
) -> None:
    content = {"per_task": [task(0, [0.2, 0.7, 1, True, None, -3.5])], "overall": {"pc_success": 47.5, "n_episodes": 6}}
    path = save(tmp_path / "eval_info.json", content)
    found = import_eval_info(path, tmp_path / "ledger", success_at=at)
    assert (found.episodes, found.successes, found.unknown, found.warnings) == (6, successes, 1, ())
    assert read(tmp_path / "ledger").manifest("libero_spatial")["success_at"] == at


@pytest.mark.parametrize("value", [math.inf, math.nan, "0.5", [0.5], {}])
def test_a_score_that_is_no_number_is_refused_with_its_place(tmp_path: Path, value: Any) -> None:
    path = save(tmp_path / "eval_info.json", {"per_task": [task(0, [1, value])]})
    with pytest.raises(UsageError, match=r"per_task\[0\]\.metrics\.successes\[1\] is .*no finite score"):
        import_eval_info(path, tmp_path / "ledger", success_at=0.5)
    with pytest.raises(UsageError, match="--success-at is nan"):
        import_eval_info(path, tmp_path / "ledger", success_at=math.nan)


def test_a_policys_name_that_a_run_would_refuse_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "eval_info.json", {"per_task": [task(0, [1, 0])]})
    with pytest.raises(UsageError, match=r"--policy 'pi\\n05' holds a line break"):
        import_eval_info(path, tmp_path / "ledger", policy="pi\n05")
    assert not (tmp_path / "ledger").exists()


@pytest.mark.parametrize("form", [{"per_task": [task(0, [1, 0, 1])]}, OLD_FORM])
def test_ledgers_of_different_thresholds_do_not_pair(
    tmp_path: Path, form: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "eval_info.json", form)
    for name, options in {"plain": (), "half": ("--success-at", "0.5"), "whole": ("--success-at", "1")}.items():
        assert invoke(["import", str(path), "--out", str(tmp_path / name), "-p", "p", *options]) == 0
    assert invoke(["compare", str(tmp_path / "half"), str(tmp_path / "half")]) == 0
    capsys.readouterr()
    for other in ("whole", "plain"):
        assert invoke(["compare", str(tmp_path / "half"), str(tmp_path / other)]) != 0
        said = "".join(capsys.readouterr())
        assert "success_at" in said or "no pairs" in said.lower()


def test_a_ledger_without_a_suite_is_not_one_of_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_eval_info(save(tmp_path / "eval_info.json", OLD_FORM), tmp_path / "ledger", policy="p")
    assert invoke(["report", str(tmp_path / "ledger")]) == 0
    said = capsys.readouterr().out
    assert "4 episodes of an unnamed suite" in said
    assert " nan" not in said


def test_a_task_that_is_listed_twice_is_numbered_on(tmp_path: Path) -> None:
    content = {"per_task": [task(0, [True, True, False]), task(0, [False] * 3)]}
    found = import_eval_info(save(tmp_path / "eval_info.json", content), tmp_path / "ledger", policy="p")
    assert (found.episodes, found.successes) == (6, 2)
    assert "per_task[1] repeats libero_spatial task 0" in found.warnings[0]
    episodes = read(tmp_path / "ledger").episodes
    assert (len(episodes), int(episodes["success"].sum())) == (6, 2)
    assert episodes["trial"].tolist() == list(range(6))


def test_a_repeated_episode_of_the_older_form_stays_a_row(tmp_path: Path) -> None:
    rows = [{"episode_ix": 0, "success": True, "seed": 1}, {"episode_ix": 0, "success": False, "seed": 1}]
    found = import_eval_info(save(tmp_path / "eval_info.json", {"per_episode": rows}), tmp_path / "ledger")
    assert found.episodes == len(read(tmp_path / "ledger").episodes) == 2


def test_a_single_result_under_a_key_is_taken(tmp_path: Path) -> None:
    path = save(tmp_path / "eval_info.json", {"run_a": {"per_task": [task(0, [True, False])]}, "note": "x"})
    assert import_eval_info(path, tmp_path / "ledger").episodes == 2


def test_an_empty_form_beside_a_full_one_does_not_hide_it(tmp_path: Path) -> None:
    content = {"per_task": [], "per_episode": [{"episode_ix": 0, "success": True}]}
    assert import_eval_info(save(tmp_path / "eval_info.json", content), tmp_path / "ledger").episodes == 1


def test_one_file_per_suite_makes_one_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [save(tmp_path / f"{suite}.json", {"per_task": [task(0, [True, False], suite)]}) for suite in ("a", "b")]
    assert invoke(["import", *map(str, files), "--out", str(tmp_path / "L"), "-p", "p"]) == 0
    assert "4 episodes, 2 successes" in capsys.readouterr().out
    assert read(tmp_path / "L").episodes["suite"].tolist() == ["a", "a", "b", "b"]
    assert invoke(["report", str(tmp_path / "L")]) == 0
    shown = capsys.readouterr().out
    assert "Partial results" not in shown
    assert "--resume" not in shown


def test_the_same_file_twice_is_refused_by_both_names(tmp_path: Path) -> None:
    content = {"per_task": [task(0, [True, False])]}
    files = [save(tmp_path / name, content) for name in ("one.json", "two.json")]
    for given_twice in ([files[0], files[0]], files):
        with pytest.raises(UsageError, match=rf"{given_twice[1]} and {files[0]} are the same file"):
            import_eval_info(given_twice, tmp_path / "L")
    assert not (tmp_path / "L").exists()


def test_an_overall_that_contradicts_its_episodes_is_warned_with_both_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"per_task": [task(0, [True, False])], "overall": {"pc_success": 95.0, "n_episodes": 20}}
    path = save(tmp_path / "eval_info.json", content)
    assert invoke(["import", str(path), "--out", str(tmp_path / "L")]) == 0
    said = capsys.readouterr().err
    assert "overall.n_episodes is 20, but the file lists 2 episodes" in said
    assert "overall.pc_success is 95.0, but 1 of its 2 episodes succeeded (50 %)" in said


def test_other_seeds_are_no_pairs_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", 1000), ("b", 2000)):
        rows = [{"episode_ix": n, "success": n > 0, "seed": seed + n} for n in range(2)]
        import_eval_info(save(tmp_path / f"{name}.json", {"per_episode": rows}), tmp_path / name, policy="p")
    assert invoke(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "no pairs: " in capsys.readouterr().err


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
almost = st.fixed_dictionaries(
    {
        "per_task": st.lists(
            st.fixed_dictionaries(
                {
                    "task_group": scalars,
                    "task_id": st.integers(0, 2) | scalars,
                    "metrics": st.fixed_dictionaries({"successes": st.lists(st.booleans() | scalars, max_size=3)}),
                }
            )
            | anything,
            max_size=3,
        ),
        "overall": anything,
    }
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=anything | almost)
def test_any_json_is_imported_whole_or_refused(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    path = save(folder / "eval_info.json", content)
    try:
        found = import_eval_info(path, folder / "ledger")
    except UsageError:
        return
    assert len(read(folder / "ledger").episodes) == found.episodes > 0


def test_an_import_does_not_overwrite(tmp_path: Path) -> None:
    path = save(tmp_path / "eval_info.json", NEW_FORM)
    import_eval_info(path, tmp_path / "ledger")
    with pytest.raises((UsageError, LedgerError)):
        import_eval_info(path, tmp_path / "ledger")


def lerobot_reads(content: dict[str, Any]) -> tuple[float, float, float]:
    """What LeRobot 0.6's training loop takes from such a file: the overall block, then every entry for logging."""
    overall = content["overall"]
    assert set(content) == {"per_task", "per_group", "overall"}
    for entry in content["per_task"]:
        metrics = entry["metrics"]
        lengths = {len(metrics[name]) for name in ("sum_rewards", "max_rewards", "successes")}
        assert len(lengths) == 1
        assert np.isfinite(np.nanmean(np.array(metrics["successes"], dtype=float)))
    return overall.pop("eval_s"), overall.pop("avg_sum_reward"), overall.pop("pc_success")


def test_lerobot_reads_what_is_exported(make_ledger: Any) -> None:
    path = make_ledger("own", ["++-", "+!+"], wall_s=10.0)
    content = json.loads(render_eval_info(export_eval_info(read(path))))
    assert content["per_group"]["libero_spatial"]["n_episodes"] == 5
    assert [entry["metrics"]["successes"] for entry in content["per_task"]] == [[True, True, False], [True, True]]
    assert lerobot_reads(content) == (10.0, 0.8, 80.0)


def test_an_export_comes_back_with_the_same_outcomes(tmp_path: Path, make_ledger: Any) -> None:
    ledger = read(make_ledger("own", ["++-", "+-+"], wall_s=1.0))
    path = tmp_path / "eval_info.json"
    path.write_text(render_eval_info(export_eval_info(ledger)))
    import_eval_info(path, tmp_path / "back")
    assert read(tmp_path / "back").episodes["outcome"].tolist() == ledger.episodes["outcome"].tolist()


def test_an_import_without_times_exports_nan_seconds(tmp_path: Path) -> None:
    import_eval_info(save(tmp_path / "eval_info.json", NEW_FORM), tmp_path / "ledger")
    content = export_eval_info(read(tmp_path / "ledger"))
    assert math.isnan(content["overall"]["eval_s"])
    assert content["overall"]["pc_success"] == 50.0


def test_several_policies_have_to_be_chosen_from(tmp_path: Path, make_ledger: Any) -> None:
    a, b = make_ledger("a", ["++"], policy="a", nfe=10), make_ledger("b", ["+-"], policy="b")
    with pytest.raises(UsageError, match=r"has a @ NFE 10, b\. Choose one"):
        export_eval_info(read(a, b))
    assert export_eval_info(read(a, b), policy="b")["overall"]["pc_success"] == 50.0


def test_the_commands_go_there_and_back(tmp_path: Path, make_ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    own, path = make_ledger("own", ["++-"]), tmp_path / "eval_info.json"
    assert invoke(["report", str(own), "--eval-info", str(path)]) == 0
    assert invoke(["import", str(path), "--out", str(tmp_path / "back"), "--policy", "mine"]) == 0
    assert "3 episodes, 2 successes" in capsys.readouterr().out
    assert invoke(["report", str(tmp_path / "back")]) == 0
    assert "mine" in capsys.readouterr().out


def test_an_import_without_a_name_can_be_reported_and_compared(tmp_path: Path) -> None:
    for name in ("a", "b"):
        import_eval_info(save(tmp_path / "eval_info.json", NEW_FORM | {"of": name}), tmp_path / name)
    assert invoke(["report", str(tmp_path / "a"), "--html", str(tmp_path / "a.html")]) == 0
    assert invoke(["gate", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
