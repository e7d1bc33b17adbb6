"""What a watch would do, and with which share of the machine: said before anything is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.watch.backlog.order import BacklogOrder
from harness.watch.checkpoints.discovery import scan
from harness.watch.checkpoints.files import open_tree
from harness.watch.evaluation.machine import Gpu, GpuChoice
from harness.watch.evaluation.request import EvaluationOptions
from harness.watch.service import Settings
from harness.watch.training.outbox import read_submissions

ORDERS = {
    BacklogOrder.NEWEST: "the newest checkpoint first, older ones when nothing newer waits",
    BacklogOrder.ALL: "every checkpoint, in the order of training",
    BacklogOrder.BISECT: "the newest, then whatever halves the largest gap between evaluated steps",
}


def explain(settings: Settings, gpus: Sequence[Gpu], choice: GpuChoice | str) -> list[str]:
    """Lines that say what would happen.

    Args:
        settings: What is watched, and how each checkpoint is evaluated.
        gpus: GPUs of this machine.
        choice: What an evaluation would get of them, or why it would get none.
    """
    lines = [f"Ledger      {settings.evaluation.out} (journal and learning curve in its folder watch/)"]
    lines += _sources(settings)
    lines.append(f"Complete    {_complete(settings)}")
    gives_way = settings.cancel and settings.order is BacklogOrder.NEWEST
    cancel = "a newer one cancels the queued episodes of an older one" if gives_way else "nothing is cancelled"
    limit = (
        "any number may wait"
        if settings.max_waiting is None
        else f"at most {settings.max_waiting} wait, the rest is skipped"
    )
    lines.append(f"Backlog     {ORDERS[settings.order]}; {cancel}; {limit}")
    where = (
        f"Ray cluster at {settings.evaluation.address}"
        if settings.evaluation.address
        else "a private Ray cluster on this machine, per checkpoint"
    )
    lines.append(f"Cluster     {where}")
    lines += _cpu(settings.evaluation)
    lines += _gpu(settings, gpus, choice)
    return lines


def _sources(settings: Settings) -> list[str]:
    lines = []
    if settings.directory is not None:
        found, faults = scan(open_tree(settings.directory), settings.evaluation.marker)
        steps = ", ".join(str(one.step) for one in found[-5:])
        lines.append(
            f"Folder      {settings.directory}: {len(found)} checkpoints" + (f", the last: {steps}" if found else "")
        )
        lines += [f"            {fault.place} {fault.reason}" for fault in faults]
    if settings.outbox is not None:
        submissions, broken = read_submissions(Path(settings.outbox))
        lines.append(f"Outbox      {settings.outbox}: {len(submissions)} submissions")
        lines += [f"            {place} {reason}" for place, reason in broken]
    return lines


def _complete(settings: Settings) -> str:
    if settings.evaluation.marker is not None:
        return f"a checkpoint is complete when it holds {settings.evaluation.marker!r}"
    return (
        "a checkpoint is complete when `last` points at it, or when nothing in it has changed for "
        f"{settings.quiet_s:g} s; its files are checked for truncation"
    )


def _cpu(evaluation: EvaluationOptions) -> list[str]:
    cpus = evaluation.cpus or tuple(sorted(os.sched_getaffinity(0)))
    workers = evaluation.rollout_workers or "one per CPU"
    grouped = Path("/proc/sys/kernel/sched_autogroup_enabled")
    group = grouped.exists() and grouped.read_text().strip() == "1"
    return [
        f"Workers     {workers}, on CPUs {', '.join(map(str, cpus))}",
        f"Priority    nice {evaluation.nice} for workers, policy servers and Ray itself"
        + (
            ", and for their scheduling group: this kernel groups processes by session"
            if group and evaluation.nice
            else ""
        ),
    ]


def _gpu(settings: Settings, gpus: Sequence[Gpu], choice: GpuChoice | str) -> list[str]:
    lines = [
        f"GPU {gpu.index}       {gpu.name}, {gpu.free_bytes / 2**30:.1f} of {gpu.memory_bytes / 2**30:.1f} GiB free, "
        + (f"held by process {', '.join(map(str, gpu.processes))}" if gpu.processes else "nobody computes there")
        for gpu in gpus
    ]
    if isinstance(choice, str):
        return [*lines, f"Policies    refused: {choice}"]
    devices = {None: "as the machine has them", "": "none"}.get(choice.devices, f"GPU {choice.devices}")
    share = settings.evaluation.gpu_memory_fraction
    limit = f", at most {share:.0%} of its memory each" if share is not None else ""
    return [*lines, f"Policies    {devices}{limit}: {choice.reason}"]
