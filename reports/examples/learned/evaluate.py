"""Episodes like those of this ledger on a host without Ray: the harness's own rollout and ledger code, one CPU thread each.

Where Ray is installed, `harness run learned` does the same. `--preset` and `--variants` choose other rules and policies.
"""

# ruff: noqa
from __future__ import annotations
import argparse, json, multiprocessing as mp, os, sys, time, uuid
from pathlib import Path

VARIANTS = [("flow", 10), ("flow:student", 1), ("flow", 1), ("flow:student", 10), ("flow", 5), ("flow", 2)]


# priority: (suite, variant) pairs
def order(suites, variants):
    sp, ob = suites[0], suites[-1]
    seq = [(sp, v) for v in variants]
    if ob != sp:
        seq += [(ob, v) for v in variants]
    return seq


def variant(text):
    """ "flow:student@1" → ("flow:student", 1)."""
    label, _, nfe = text.partition("@")
    return label, int(nfe)


def policy_for(label, folders, cache):
    if label not in cache:
        from harness.policies.flow import FlowPolicy, load_network

        net, sha = load_network(folders[label])
        cache[label] = FlowPolicy(
            net,
            policy_id=label,
            checkpoint="vla-harness/flow-" + ("student" if "student" in label else "teacher"),
            weights_sha256=sha,
            device="cpu",
        )
    return cache[label]


def work(o, worker, groups, counters, results, hw):
    os.environ.update(o.env[worker % len(o.env)])
    import torch

    torch.set_num_threads(1)
    from dataclasses import replace
    from harness.rollout import run_episode, LocalDecider, WallTime, Alarm
    from harness.sim import LiberoSim
    from harness.worlds.base import sim_config
    from harness.spec.observation import CAMERAS
    from harness.spec.protocol import Protocol
    from harness.spec.suite import Limits

    protocol = Protocol.model_validate(o.preset)
    clock, alarm = WallTime(), Alarm()
    sims, policies, deciders = {}, {}, {}
    n_tasks = o.tasks

    def pull(group, task):
        c = counters[group * n_tasks + task]
        with c.get_lock():
            if c.value >= len(groups[group][2][task]):
                return None
            c.value += 1
            return groups[group][2][task][c.value - 1]

    home = worker % n_tasks
    while time.time() < o.deadline:
        unit, waiting, open_groups = None, False, []
        for g, (suite, (label, nfe), lists) in enumerate(groups):
            if all(counters[g * n_tasks + t].value >= len(lists[t]) for t in range(n_tasks)):
                continue
            if not (o.folders[label] / "model.safetensors").exists():
                waiting = True
                continue
            open_groups.append(g)
        for g in open_groups[:3]:
            unit = pull(g, home)
            if unit:
                break
        if unit is None:
            for g in open_groups:
                for k in range(1, n_tasks):
                    unit = pull(g, (home + k) % n_tasks)
                    if unit:
                        break
                if unit:
                    break
        if unit is None:
            if not waiting:
                break
            time.sleep(0.5)
            continue
        key = (unit.suite, unit.task_id)
        if key not in sims:
            if len(sims) > 3:
                sims.pop(next(iter(sims))).close()
            sims[key] = LiberoSim(*key, config=sim_config(protocol, CAMERAS, privileged=False))
        p = policy_for(unit.policy, o.folders, policies)
        d = deciders.setdefault(unit.policy, LocalDecider(p, alarm, clock))
        r = run_episode(sims[key], d, unit, protocol, p.info, clock=clock, limits=Limits())
        results.put((replace(r, node_id=hw[0], hardware=hw[1], task=o.names[key]), p.info))
    results.put(None)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--teacher", type=Path)
    a.add_argument("--student", type=Path)
    a.add_argument("--out", type=Path)
    a.add_argument("--processes", type=int, default=32)
    a.add_argument("--seconds", type=float, default=1e9)
    a.add_argument("--suites", default="libero_spatial,libero_object")
    a.add_argument("--init-states", type=int, default=50)
    a.add_argument("--tasks", type=int, default=10)
    a.add_argument("--egl-devices", type=int, default=0)
    a.add_argument("--renderer", default="egl-gpu")
    a.add_argument("--revision", default=None)
    a.add_argument("--preset", default="lerobot")
    a.add_argument("--variants", default=",".join(f"{label}@{nfe}" for label, nfe in VARIANTS))
    o = a.parse_args()
    variants = [variant(text) for text in o.variants.split(",")]
    t0 = time.time()
    o.deadline = t0 + o.seconds
    o.env = [{"MUJOCO_EGL_DEVICE_ID": str(i)} for i in range(o.egl_devices)] or [{}]
    o.folders = {"flow": o.teacher, "flow:student": o.student}
    from datetime import datetime, UTC
    from harness.cluster.rows import episode_rows, decision_rows
    from harness.latency.node import describe_node
    from harness.ledger import LedgerWriter
    from harness.schedule.plan import SuiteCounts, plan_episodes
    from harness.sim.world import LiberoWorld
    from harness.spec import Suite
    from harness.spec.manifest import canonical_json, manifest_sha256
    from harness.spec.protocol import run_protocol_sha256

    names = o.suites.split(",")
    suite = Suite.model_validate(
        {
            "name": "learned",
            "description": "The shipped flow policy, teacher and student, on every init state of libero_spatial and libero_object.",
            "protocol": o.preset,
            "tasks": [{"suite": n} for n in names],
            "policies": list(dict.fromkeys(label for label, _ in variants)),
            "nfe": sorted({nfe for _, nfe in variants}, reverse=True),
        }
    )
    world = LiberoWorld()
    desc = {n: world.describe(n) for n in names}
    man = {
        n: suite.protocol.manifest(n, init_states_sha256=d.init_states_sha256, versions=d.versions, renderer=o.renderer)
        for n, d in desc.items()
    }
    counts = {n: SuiteCounts(desc[n].n_init_states, manifest_sha256(m)) for n, m in man.items()}
    o.names = {(n, i): t for n, d in desc.items() for i, t in enumerate(d.tasks)}
    groups = []
    for n, v in order(names, variants):
        ts = [t for t in suite.tasks if t.suite == n]
        units = [u for u in plan_episodes(ts, counts, [v]) if u.init_state_id < o.init_states]
        groups.append((n, v, [[u for u in units if u.task_id == t] for t in range(o.tasks)]))
    writer = LedgerWriter(o.out)
    run_id = f"learned-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
    versions = {k: v for d in desc.values() for k, v in d.versions.items()}
    import torch

    versions["torch"] = torch.__version__
    row = {
        "run_id": run_id,
        "suite": suite.to_yaml(),
        "started_at": datetime.now(UTC),
        "protocol": canonical_json(man),
        "protocol_sha256": run_protocol_sha256(man),
        "git_revision": o.revision,
        "versions": versions,
    }
    writer.claim(row["suite"], row["protocol"], row["protocol_sha256"])
    writer.append("runs", [{**row, "status": "running"}])
    node = describe_node(run_id=run_id, node_id="gpu-host")
    node["versions"] = dict(node["versions"])
    node["hardware"] = node["cpu"]
    writer.append("nodes", [{k: v for k, v in node.items()}])
    hw = (node["node_id"], node["hardware"])
    ctx = mp.get_context("spawn")
    counters = [ctx.Value("i", 0) for _ in range(len(groups) * o.tasks)]
    results = ctx.Queue()
    ps = [ctx.Process(target=work, args=(o, w, groups, counters, results, hw)) for w in range(o.processes)]
    for p in ps:
        p.start()
    infos, held, tally, alive, last = {}, [], {}, len(ps), time.time()

    def flush():
        if held:
            writer.append("episodes", episode_rows(run_id, "synchronous", held, infos))
            writer.append("decisions", decision_rows(run_id, held))
            held.clear()

    grace = 25
    while alive and time.time() < o.deadline + grace:
        try:
            got = results.get(timeout=1)
        except Exception:
            got = 0
        if got is None:
            alive -= 1
        elif got != 0:
            r, info = got
            infos[r.unit.policy] = info
            held.append(r)
            k = (r.unit.suite, r.unit.policy, r.unit.nfe)
            s = tally.setdefault(k, [0, 0, 0])
            s[0] += r.outcome == "success"
            s[1] += 1
            s[2] += r.outcome == "error"
            if r.outcome == "error" and s[2] < 3:
                print(r.error_type, r.error_message, flush=True)
        if time.time() - last > 20:
            last = time.time()
            print(round(time.time() - t0), {" ".join(map(str, k)): v for k, v in tally.items()}, flush=True)
        if len(held) >= 2000:
            flush()
    flush()
    status = (
        "finished"
        if all(c.value >= len(groups[i // o.tasks][2][i % o.tasks]) for i, c in enumerate(counters))
        else "interrupted"
    )
    writer.append("runs", [{**row, "ended_at": datetime.now(UTC), "status": status}])
    print(
        "EVAL DONE",
        round(time.time() - t0),
        status,
        json.dumps({" ".join(map(str, k)): v for k, v in tally.items()}),
        flush=True,
    )
    for p in ps:
        if p.is_alive():
            p.kill()


if __name__ == "__main__":
    main()
