"""What a resumed training has to go on with: the optimizer's state, the schedule, the loss."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from test_service import Bench

from checkpoints import write_checkpoint
from harness.watch.training.client import EvalClient
from harness.watch.training.state import TrainingState, jumps, read_training_state


def healthy(step: int, **changes: float | None) -> TrainingState:
    """A run of 10,000 steps with a warm-up of 1,000 and a cosine down to a tenth."""
    share = (step - 1000) / 9000
    rate = 1e-4 * step / 1000 if step < 1000 else 1e-4 * (0.55 + 0.45 * math.cos(math.pi * share))
    told = {"learning_rate": rate, "optimizer_steps": float(step), "loss": 0.5 * 0.9 ** (step / 1000)} | changes
    return TrainingState(step, **told)


HISTORY = [healthy(step) for step in (500, 1000, 2000, 3000, 4000)]


def test_training_that_simply_goes_on_is_not_flagged() -> None:
    for n in range(1, len(HISTORY)):
        assert jumps(HISTORY[:n], HISTORY[n]) == []
    assert jumps([], HISTORY[0]) == []
    assert jumps(HISTORY, healthy(5000, loss=0.45)) == [], "losses are noisy"
    assert jumps(HISTORY, healthy(5000, optimizer_steps=4980.0)) == [], "mixed precision skips updates"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimizer_steps": 1000.0}, "counts 1,000 updates at step 5,000, after 4,000 at step 4,000"),
        ({"learning_rate": 1e-4}, "the schedule was not restored"),
        ({"loss": 1.4}, "the loss jumped from 0.328 to 1.4"),
    ],
)
def test_each_jump_is_told(changes: dict[str, float], said: str) -> None:
    (found,) = jumps(HISTORY, healthy(5000, **changes))
    assert said in found


def test_a_reset_is_found_though_the_count_has_passed_the_old_one() -> None:
    assert jumps([healthy(1000)], healthy(5000, optimizer_steps=4000.0)), "4,000 updates in 4,000 steps, from nothing"


def test_one_accumulated_update_in_four_steps_is_no_jump() -> None:
    history = [healthy(step, optimizer_steps=step / 4) for step in (1000, 2000)]
    assert jumps(history, healthy(3000, optimizer_steps=750.0)) == []


def test_what_is_not_known_is_not_judged(tmp_path: Path) -> None:
    assert jumps(HISTORY, TrainingState(5000)) == []
    model = write_checkpoint(tmp_path, 5)
    assert read_training_state(str(model), 5) == TrainingState(5)
    (model.parent / "training_state").mkdir()
    (model.parent / "training_state" / "optimizer_param_groups.json").write_text("[1")
    (model.parent / "training_state" / "optimizer_state.safetensors").write_bytes(b"short")
    assert read_training_state(str(model), 5) == TrainingState(5)


def save_state(model: Path, steps: int, rate: float) -> None:
    """Write a training state as LeRobot does, of an optimizer that has taken so many steps."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("lerobot")
    from lerobot.optim.optimizers import save_optimizer_state

    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([parameter], lr=rate)
    for _ in range(steps):
        parameter.grad = torch.ones(3)
        optimizer.step()
    folder = model.parent / "training_state"
    folder.mkdir()
    save_optimizer_state(optimizer, folder)


def test_the_watcher_flags_a_resume_that_lost_lerobots_optimizer(tmp_path: Path) -> None:
    bench = Bench(tmp_path, quiet_s=0.0)
    for step, steps, rate in ((10, 10, 1e-4), (20, 20, 5e-5), (30, 10, 1e-4)):
        save_state(write_checkpoint(bench.run_dir, step, float(step)), steps, rate)
        assert bench.once()
    flagged = bench.restarted().state.entries["step-000030"].flags
    assert len(flagged) == 2
    assert "counts 10 updates at step 30, after 20 at step 20" in flagged[0]
    assert "rose from 5e-05 to 0.0001" in flagged[1]
    assert any("warning: step-000030: the optimizer counts" in line for line in bench.said)
    assert not bench.watcher.state.entries["step-000020"].flags


def test_what_a_submission_tells_of_training_stands_with_its_checkpoint(tmp_path: Path) -> None:
    bench = Bench(tmp_path, quiet_s=0.0)
    client = EvalClient(bench.outbox, limit_s=10.0, now_s=lambda: bench.clock.now().timestamp())
    for step, loss in ((1, 0.5), (2, 0.4), (3, 2.0)):
        model = write_checkpoint(bench.run_dir, step, float(step))
        if step != 2:
            # The folder is looked at before the outbox: the second is known already when its submission is read.
            assert client.submit(model, step, gpu_hours=step / 2, price=step * 3.0, loss=loss)
        assert bench.once()
        if step == 2:
            assert client.submit(model, step, gpu_hours=1.0, price=6.0, loss=loss)
            assert bench.once()
    entries = bench.restarted().state.entries
    told = [(entry.gpu_hours, entry.price, entry.loss) for entry in entries.values()]
    assert told == [(0.5, 3.0, 0.5), (1.0, 6.0, 0.4), (1.5, 9.0, 2.0)]


def test_a_cost_that_is_none_is_logged_and_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not EvalClient(tmp_path, limit_s=10.0).submit("somewhere", 1, gpu_hours=-1.0)
    assert "gpu_hours is -1.0" in caplog.text
