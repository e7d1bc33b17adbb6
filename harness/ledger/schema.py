"""The ledger's tables, column by column. Raw samples only: rates and percentiles are computed by readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from harness.schedule.canaries import CANARY_KINDS, CANARY_LABELS
from harness.schedule.status import RunStatus
from harness.spec.stages import STAGES

# History of the schema version (in the metadata of every part; readers accept every version listed here):
#   1  2026-11  first version: episodes, decisions, latency, nodes, runs; then counts and differences.
#               Columns added since: decisions.attempt, latency.launch, episodes.worker,
#               startup_s, build_s, idle_s, goals, goals_held_end, goals_held_best, stage and success_step,
#               nodes.renderers; episodes.latency_source, stale_steps, hold_steps, jerk_m_s3, energy_j and
#               overruns,
#               decisions.delay_ms, clock and latency_source, runs.timing; episodes.canary. Null in parts of before.
#               Tables added since: usage, phases, duplicates, canaries, motion. Empty in ledgers of before.
SCHEMA_VERSION = 1

TIMESTAMP = pa.timestamp("us", tz="UTC")

Row = dict[str, Any]
"""One row of a table: column to value."""

OUTCOMES = ("success", "timeout", "error")
COMPONENTS = ("e2e", "preprocess", "vision", "prefix", "denoise_step", "postprocess", "transport")
PHASES = ("prepare", "ray", "policies", "nodes", "claim", "workers", "rollouts", "probes", "end")
"""`phases.phase`: the parts of a run in their order; they add up to it."""
PLAN_STATUSES = ("planned", "no data", "late", "failed")
"""`plans.status`: there is a forecast; there was nothing to draw from; it was not ready before the first episode; it
could not be made."""
RUN_STATUSES = tuple(RunStatus)
"""`runs.status`: a gate that stops a run early may add its own."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: what documentation, `harness list columns` and Parquet's field metadata say of it."""

    name: str
    type: pa.DataType
    description: str
    """One line."""
    unit: str | None = None
    """Unit, or what is counted; None for names, digests and truth values."""
    values: tuple[str, ...] = ()
    """Every value that may stand here, where they are a closed list."""

    @property
    def field(self) -> pa.Field:
        """The Arrow field, with `description`, `unit` and `values` in its metadata."""
        metadata = {"description": self.description, "unit": self.unit or "", "values": ", ".join(self.values)}
        return pa.field(self.name, self.type, metadata={key: text for key, text in metadata.items() if text})


TEXT, WHOLE, LONG, REAL, TRUTH = pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.bool_()
TEXTS = pa.map_(pa.string(), pa.string())
NUMBERS = pa.map_(pa.string(), pa.float64())
SERIES = pa.list_(pa.float32())

# Columns that mean the same in every table that has them.
_RUN = Column("run_id", TEXT, "The run or probe that wrote the row; `runs` has a row for it.")
_NODE = Column("node_id", TEXT, "Machine: its host name and six digits of its machine id; `nodes` has a row for it.")
_HARDWARE = Column("hardware", TEXT, "Hardware profile of the machine; null when none matches.")
_POLICY = Column("policy_id", TEXT, "Label of the policy: its name, or the label that the suite gives it.")
_NFE = Column("nfe", WHOLE, "Number of function evaluations; null for a policy without a denoising loop.", "steps")
_DTYPE = Column("dtype", TEXT, "Data type of the policy's parameters; null for a policy without weights.")
_COMPILE = Column("compile", TEXT, "How the policy was compiled: eager, or a mode of torch.compile.")
_BATCH = Column("batch_size", WHOLE, "Observations in one call of the policy.", "observations")
_COMPONENT = Column("component", TEXT, "Part of a decision; e2e is the whole.", None, COMPONENTS)
_KEY = Column("episode_key", TEXT, "SHA-256 of protocol, suite, task, init state, trial: it pairs checkpoints.")
_PROTOCOL_SHA = Column("protocol_sha256", TEXT, "SHA-256 of the protocol's manifest.")
_CLOCK = Column("clock", TEXT, "How simulated time passes while the policy decides, e.g. synchronous.")
_SOURCE = Column("latency_source", TEXT, "Where the delays of decisions come from; null under the synchronous clock.")
_VARIANT = Column("variant", TEXT, "What sets the policy apart from its reference, option by option; null for none.")
_MEASURED = (_RUN, _NODE, _HARDWARE, _POLICY, _NFE, _DTYPE, _COMPILE, _BATCH)
"""What says which measurement a row belongs to."""


def _started(what: str) -> Column:
    return Column("started_at", TIMESTAMP, f"When {what} began.", "UTC")


COLUMNS: dict[str, tuple[Column, ...]] = {
    "episodes": (
        _RUN,
        _KEY,
        _PROTOCOL_SHA,
        Column("suite", TEXT, "LIBERO suite of the task."),
        Column("task_id", WHOLE, "Number of the task in its suite, from 0."),
        Column("task", TEXT, "Name of the task."),
        Column("init_state_id", WHOLE, "Number of the initial state among those of the task, from 0."),
        Column("trial", WHOLE, "Repetition of the same initial state, from 0: other noise, all else equal."),
        _POLICY,
        Column("checkpoint", TEXT, "Resolved checkpoint: repository@revision or a path; null without weights."),
        Column("checkpoint_sha256", TEXT, "Digest of what the policy is; null for a policy without weights."),
        _NFE,
        _DTYPE,
        _CLOCK,
        Column("outcome", TEXT, "How it ended; an error is the infrastructure's.", None, OUTCOMES),
        Column("success", TRUTH, "Whether the task was solved; null exactly when the outcome is error."),
        Column("steps", WHOLE, "Control steps after settling.", "control steps"),
        Column("decisions", WHOLE, "Decisions that the policy took.", "decisions"),
        Column("clipped", WHOLE, "Executed actions with a component out of [-1, 1].", "actions"),
        Column("sim_s", REAL, "Simulated time after settling.", "s"),
        Column("wall_s", REAL, "Time that the whole episode took.", "s"),
        Column("reset_s", REAL, "Of `wall_s`: placing objects and settling.", "s"),
        Column("physics_s", REAL, "Of `wall_s`: physics and controller.", "s"),
        Column("render_s", REAL, "Of `wall_s`: drawing frames.", "s"),
        Column("policy_wait_s", REAL, "Of `wall_s`: waiting for the policy, queue and network included.", "s"),
        Column("attempt", WHOLE, "Which attempt at the episode this is, from 1, over all runs of the ledger."),
        _NODE,
        _HARDWARE,
        Column("trajectory_sha256", TEXT, "SHA-256 of qpos after every control step; null for errors."),
        Column("video", TEXT, "Video of the episode, relative to the ledger; null when it was not filmed."),
        Column("error_type", TEXT, "Kind of the infrastructure error; null without one."),
        Column("error_message", TEXT, "What the infrastructure error said; null without one."),
        _started("the attempt"),
        Column("worker", TEXT, "Rollout worker that ran it, unique in the run."),
        Column("startup_s", REAL, "Before a worker's first episode: from the run's start to its first question.", "s"),
        Column("build_s", REAL, "Before the episode: opening or building its task; 0 when the worker held it.", "s"),
        Column("idle_s", REAL, "Before the episode: waiting for work, reporting, filming.", "s"),
        Column("goals", WHOLE, "Predicates of the task's goal; null where the world declares none.", "predicates"),
        Column("goals_held_end", WHOLE, "Goal predicates that held at the end.", "predicates"),
        Column("goals_held_best", WHOLE, "Most goal predicates that held at one moment.", "predicates"),
        Column("stage", TEXT, "Furthest stage towards a goal that did not hold at that moment.", None, STAGES),
        Column("success_step", WHOLE, "Control step at which it was solved; null when it was not.", "control steps"),
        _SOURCE,
        Column("stale_steps", WHOLE, "Steps that executed the old chunk during a decision.", "control steps"),
        Column("hold_steps", WHOLE, "Steps in which the robot held, for want of an action.", "control steps"),
        Column("jerk_m_s3", REAL, "RMS of the third difference of the end effector's position.", "m/s³"),
        Column("energy_j", REAL, "Energy of the source's device over all decisions; null when not measured.", "J"),
        Column("overruns", WHOLE, "Steps that took longer than their period; null in virtual time.", "control steps"),
        Column("canary", TEXT, "How its machines compared to the reference; null: not asked.", None, CANARY_LABELS),
    ),
    "decisions": (
        _RUN,
        _KEY,
        _POLICY,
        _NFE,
        Column("decision", WHOLE, "Number of the decision in its episode, from 0."),
        Column("queue_ms", REAL, "Waiting for other decisions or for a batch to fill.", "ms"),
        Column("infer_ms", REAL, "Inside the policy; the whole batch's time.", "ms"),
        Column("batch_size", WHOLE, "Observations that shared the call.", "observations"),
        Column("delay_steps", WHOLE, "Steps from observation to first action; 0 when synchronous.", "control steps"),
        Column("hardware", TEXT, "Hardware profile of the machine that the policy ran on."),
        Column("transport_ms", REAL, "On the way to a policy server and back; null without one.", "ms"),
        Column("attempt", WHOLE, "Attempt of the episode that the decision belongs to, as in `episodes`."),
        Column("delay_ms", REAL, "What `delay_steps` comes from, network and age of the frame included.", "ms"),
        _CLOCK,
        _SOURCE,
    ),
    "motion": (
        _RUN, _KEY, _POLICY, _NFE, _CLOCK, _SOURCE,
        Column("attempt", WHOLE, "Attempt of the episode that the row belongs to, as in `episodes`."),
        Column("x_m", SERIES, "End effector after every control step, in the world's frame.", "m"),
        Column("y_m", SERIES, "The same, y.", "m"),
        Column("z_m", SERIES, "The same, z: upwards.", "m"),
        Column("gripper", SERIES, "What the gripper was told, as the world takes it (LIBERO: -1 opens, 1 closes)."),
    ),
    "latency": (
        *_MEASURED,
        _COMPONENT,
        Column("sample", LONG, "Number of the decision in its configuration and run, from 0; its components share it."),
        Column("latency_ms", REAL, "What the component took, the device synchronised.", "ms"),
        Column("sm_clock_mhz", REAL, "Clock of the accelerator's cores at the middle of the sample.", "MHz"),
        Column("temperature_c", REAL, "Temperature of the accelerator at the middle of the sample.", "°C"),
        Column("power_w", REAL, "Power of the accelerator at the middle of the sample.", "W"),
        Column("throttled", TRUTH, "Whether the accelerator held its clocks back; null when it does not say."),
        _started("the sample"),
        Column("memory_bytes", LONG, "Policy's peak memory by then: accelerator's, or a CPU's resident.", "B"),
        Column("memory_clock_mhz", REAL, "Clock of the accelerator's memory at the middle of the sample.", "MHz"),
        Column("energy_j", REAL, "The device's energy in one decision; rows e2e only.", "J"),
        _VARIANT,
        Column("compile_s", REAL, "What the first call of a compiled policy took beyond a usual one.", "s"),
        Column("shared", TRUTH, "Whether another process computed on the accelerator; null when nobody could tell."),
        Column("telemetry_source", TEXT, "Column=source of each clock, temperature, power and energy of the row."),
        Column("launch", WHOLE, "Process that took the sample, from 0 in its run; null before: one launch a run."),
    ),
    "nodes": (
        _RUN,
        Column("node_id", TEXT, "Machine: its host name and six digits of its machine id."),
        _HARDWARE,
        Column("cpu", TEXT, "Model of the CPU."),
        Column("cores", WHOLE, "Cores that the process may run on.", "cores"),
        Column("memory_bytes", LONG, "Memory of the machine.", "B"),
        Column("accelerator", TEXT, "Product name of the accelerator; null without one."),
        Column("driver", TEXT, "Version of the accelerator's driver, or the release of Jetson Linux."),
        Column("versions", TEXTS, "Package → version, of those that decide scores or latencies."),
        Column("copy_gb_s", REAL, "Cold copy of memory, bytes read plus bytes written.", "1e9 B/s"),
        Column("matmul_tflop_s", REAL, "Dense square matmul: bfloat16 on CUDA, float32 on a CPU.", "1e12 FLOP/s"),
        Column("launch_us", REAL, "Host time of one operation on one element, back to back.", "µs"),
        Column("matmul_by_format", NUMBERS, "Number format (bf16, tf32, …) → dense square matmul.", "1e12 FLOP/s"),
        Column("python_us", REAL, "Host time of one call of an empty module.", "µs"),
        Column("isa", TEXT, "Widest vector instruction set of the CPU, e.g. avx512, avx2, sve, neon."),
        Column("threads", WHOLE, "Threads of one operation of torch, in policy servers if there are any.", "threads"),
        Column("gl", TEXT, "What renders there: class (egl-gpu, osmesa, …) and device; null where nothing does."),
        Column("renderers", TEXTS, "Worker → EGL device that it renders on; null where there is one for all."),
    ),
    "counts": (
        *_MEASURED,
        _COMPONENT,
        Column("calls", WHOLE, "Calls of the component in one decision.", "calls"),
        Column("flops", LONG, "Operations per call; a multiply-add is two.", "FLOP"),
        Column("parameter_bytes", LONG, "Parameters read per call.", "B"),
        Column("kv_bytes", LONG, "Attention cache written or read per call.", "B"),
        Column("activation_bytes", LONG, "Activations of products, convolutions, attention.", "B"),
        Column("kernels", WHOLE, "GPU kernels per call; null on a CPU.", "kernels"),
        Column("busy_ms", REAL, "Time per call in which any kernel ran; null on a CPU.", "ms"),
        Column("method", TEXT, "How it was counted, in words."),
        _started("the count"),
        Column("flops_by_format", NUMBERS, "Number format → operations per call.", "FLOP"),
        Column("operators", WHOLE, "Operators of the framework per call.", "operators"),
        Column("elementwise_bytes", LONG, "Elementwise activations per call: a compiler can fuse them.", "B"),
    ),
    "differences": (
        *_MEASURED,
        _VARIANT,
        Column("reference", TEXT, "`policy_id` of what it is compared with: eager, the checkpoint's dtype."),
        Column("decisions", WHOLE, "Decisions compared, on the same observations and noise.", "decisions"),
        Column("cosine", REAL, "Least cosine similarity of two answers."),
        Column("max_abs", REAL, "Largest difference of one number of an action.", "action units"),
        Column("rms", REAL, "Root mean square difference.", "action units"),
        Column("observation_rms", REAL, "The same between the reference's answers to other frames.", "action units"),
        _started("the comparison"),
    ),
    "usage": (
        _RUN,
        _NODE,
        Column("at", TIMESTAMP, "End of the second or so that the row is about.", "UTC"),
        Column("workers", WHOLE, "Rollout workers there, started and not ended.", "workers"),
        Column("workers_busy", WHOLE, "Of those, with a lease at that moment, opening its task included.", "workers"),
        Column("server_busy", REAL, "Share of the time since the row before in which a policy server computed, mean."),
        Column("gpu_busy", REAL, "Share of time in which the servers' GPUs ran a kernel (NVML), mean."),
    ),
    "duplicates": (
        _RUN,
        _POLICY, _KEY, _NFE, _CLOCK, _SOURCE,
        Column("node_id", TEXT, "Node of the one that does not count."),
        Column("hardware", TEXT, "What that node is."),
        Column("outcome", TEXT, "How that one ended.", None, OUTCOMES),
        Column("wall_s", REAL, "What that one took.", "s"),
        Column("trajectory_sha256", TEXT, "Its digest of qpos after every control step."),
        Column("counted_node_id", TEXT, "Node of the one in `episodes`: it ended first."),
        Column("counted_hardware", TEXT, "What that node is."),
        Column("counted_outcome", TEXT, "How it ended.", None, OUTCOMES),
        Column("counted_wall_s", REAL, "What it took.", "s"),
        Column("counted_trajectory_sha256", TEXT, "Its digest of qpos."),
        Column("equal", TRUTH, "Whether both went the same way to the bit."),
    ),
    "canaries": (
        _RUN,
        Column("node_id", TEXT, "Node that answered."),
        Column("hardware", TEXT, "What that node is."),
        Column("isa", TEXT, "Its instruction set, as in `nodes`: with the next two, its class."),
        Column("gl", TEXT, "What renders there; null for a decision."),
        Column("accelerator", TEXT, "Its accelerator; null without one."),
        Column("kind", TEXT, "What every node repeated.", None, CANARY_KINDS),
        Column("subject", TEXT, "Which episode, camera or policy."),
        Column("sha256", TEXT, "Digest of its answer: every position on the way, frame, or actions."),
        Column("reference_node_id", TEXT, "Node that it is compared with: the first of the largest class."),
        Column("equal", TRUTH, "Whether the answer is the reference's to the bit; null without an answer."),
        Column("difference", REAL, "Largest difference of one number: m or rad, levels of 255, action units."),
        Column("tolerance", REAL, "What it may be; 0 within a class."),
        Column("within", TRUTH, "Whether it is within the tolerance."),
        Column("error", TEXT, "Why there is no answer; null with one."),
    ),
    "phases": (
        _RUN,
        Column("phase", TEXT, "Part of the run, in its order.", None, PHASES),
        Column("started_at", TIMESTAMP, "When the phase began.", "UTC"),
        Column("seconds", REAL, "How long it took.", "s"),
    ),
    "plans": (
        _RUN,
        Column("made_at", TIMESTAMP, "When the forecast was made: while the run starts.", "UTC"),
        Column("status", TEXT, "Whether there is a forecast, and why not.", None, PLAN_STATUSES),
        Column("episodes", WHOLE, "Episodes that it is about.", "episodes"),
        Column("workers", WHOLE, "Rollout workers that it reckons with.", "workers"),
        Column("finish_s", REAL, "Forecast of the run's time without its probes, median.", "s"),
        Column("low_s", REAL, "Lower end of the band.", "s"),
        Column("high_s", REAL, "Upper end of the band.", "s"),
        Column("band", REAL, "Share of runs that the band is meant to cover."),
        Column("inputs", TEXT, "JSON object: the ledgers drawn from, and what was assumed."),
    ),
    "runs": (
        Column("run_id", TEXT, "Name of the run or probe."),
        Column("suite", TEXT, "The suite as it was run, YAML."),
        Column("protocol", TEXT, "JSON object: LIBERO suite → protocol manifest."),
        Column("protocol_sha256", TEXT, "SHA-256 over all manifests of the run."),
        Column("git_revision", TEXT, "Commit of the harness, with -dirty when files differ; null for a wheel."),
        Column("versions", TEXTS, "Package → version, of those that decide scores or latencies."),
        _started("the run"),
        Column("ended_at", TIMESTAMP, "When the run ended; null while it runs, or when it was killed.", "UTC"),
        Column("status", TEXT, f"State of the run: {', '.join(RUN_STATUSES)}. The last one counts."),
        Column("policies", TEXT, "JSON object: policy label → its origin, warnings and how it was served."),
        Column("timing", TEXT, "JSON object: the run's clocks, its sources of delays, and the cells left out."),
    ),
}  # fmt: skip
"""Table → its columns. Contracts only grow: columns are added at the end, never renamed or removed."""

TABLES: dict[str, pa.Schema] = {
    table: pa.schema([column.field for column in columns]) for table, columns in COLUMNS.items()
}
"""Table → Arrow schema."""
