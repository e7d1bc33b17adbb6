"""Arrow schemas of the ledger's tables. Raw samples only: rates and percentiles are computed by readers."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

# History of the schema version (in the metadata of every part; readers accept every version listed here):
#   1  2026-11  first version: episodes, decisions, latency, nodes, runs; then counts and differences.
SCHEMA_VERSION = 1

TIMESTAMP = pa.timestamp("us", tz="UTC")

Row = dict[str, Any]
"""One row of a table: column to value."""

TABLES: dict[str, pa.Schema] = {
    "episodes": pa.schema(
        [
            ("run_id", pa.string()),
            ("episode_key", pa.string()),
            ("protocol_sha256", pa.string()),
            ("suite", pa.string()),
            ("task_id", pa.int32()),
            ("task", pa.string()),
            ("init_state_id", pa.int32()),
            ("trial", pa.int32()),
            ("policy_id", pa.string()),
            ("checkpoint", pa.string()),
            ("checkpoint_sha256", pa.string()),
            ("nfe", pa.int32()),
            ("dtype", pa.string()),
            ("clock", pa.string()),
            ("outcome", pa.string()),
            ("success", pa.bool_()),
            ("steps", pa.int32()),
            ("decisions", pa.int32()),
            ("clipped", pa.int32()),
            ("sim_s", pa.float64()),
            ("wall_s", pa.float64()),
            ("reset_s", pa.float64()),
            ("physics_s", pa.float64()),
            ("render_s", pa.float64()),
            ("policy_wait_s", pa.float64()),
            ("attempt", pa.int32()),
            ("node_id", pa.string()),
            ("hardware", pa.string()),
            ("trajectory_sha256", pa.string()),
            ("video", pa.string()),
            ("error_type", pa.string()),
            ("error_message", pa.string()),
            ("started_at", TIMESTAMP),
        ]
    ),
    "decisions": pa.schema(
        [
            ("run_id", pa.string()),
            ("episode_key", pa.string()),
            ("policy_id", pa.string()),
            ("nfe", pa.int32()),
            ("decision", pa.int32()),
            ("queue_ms", pa.float64()),
            ("infer_ms", pa.float64()),
            ("batch_size", pa.int32()),
            ("delay_steps", pa.int32()),
            ("hardware", pa.string()),
            ("transport_ms", pa.float64()),
        ]
    ),
    "latency": pa.schema(
        [
            ("run_id", pa.string()),
            ("node_id", pa.string()),
            ("hardware", pa.string()),
            ("policy_id", pa.string()),
            ("nfe", pa.int32()),
            ("dtype", pa.string()),
            ("compile", pa.string()),
            ("batch_size", pa.int32()),
            ("component", pa.string()),
            ("sample", pa.int64()),
            ("latency_ms", pa.float64()),
            ("sm_clock_mhz", pa.float64()),
            ("temperature_c", pa.float64()),
            ("power_w", pa.float64()),
            ("throttled", pa.bool_()),
            ("started_at", TIMESTAMP),
            ("memory_bytes", pa.int64()),
            ("memory_clock_mhz", pa.float64()),
            ("energy_j", pa.float64()),
            ("variant", pa.string()),
            ("compile_s", pa.float64()),
            ("shared", pa.bool_()),
        ]
    ),
    "nodes": pa.schema(
        [
            ("run_id", pa.string()),
            ("node_id", pa.string()),
            ("hardware", pa.string()),
            ("cpu", pa.string()),
            ("cores", pa.int32()),
            ("memory_bytes", pa.int64()),
            ("accelerator", pa.string()),
            ("driver", pa.string()),
            ("versions", pa.map_(pa.string(), pa.string())),
            ("copy_gb_s", pa.float64()),
            ("matmul_tflop_s", pa.float64()),
            ("launch_us", pa.float64()),
            ("matmul_by_format", pa.map_(pa.string(), pa.float64())),
            ("python_us", pa.float64()),
        ]
    ),
    "counts": pa.schema(
        [
            ("run_id", pa.string()),
            ("node_id", pa.string()),
            ("hardware", pa.string()),
            ("policy_id", pa.string()),
            ("nfe", pa.int32()),
            ("dtype", pa.string()),
            ("compile", pa.string()),
            ("batch_size", pa.int32()),
            ("component", pa.string()),
            ("calls", pa.int32()),
            ("flops", pa.int64()),
            ("parameter_bytes", pa.int64()),
            ("kv_bytes", pa.int64()),
            ("activation_bytes", pa.int64()),
            ("kernels", pa.int32()),
            ("busy_ms", pa.float64()),
            ("method", pa.string()),
            ("started_at", TIMESTAMP),
            ("flops_by_format", pa.map_(pa.string(), pa.float64())),
            ("operators", pa.int32()),
            ("elementwise_bytes", pa.int64()),
        ]
    ),
    "differences": pa.schema(
        [
            ("run_id", pa.string()),
            ("node_id", pa.string()),
            ("hardware", pa.string()),
            ("policy_id", pa.string()),
            ("nfe", pa.int32()),
            ("dtype", pa.string()),
            ("compile", pa.string()),
            ("batch_size", pa.int32()),
            ("variant", pa.string()),
            ("reference", pa.string()),
            ("decisions", pa.int32()),
            ("cosine", pa.float64()),
            ("max_abs", pa.float64()),
            ("rms", pa.float64()),
            ("observation_rms", pa.float64()),
            ("started_at", TIMESTAMP),
        ]
    ),
    "runs": pa.schema(
        [
            ("run_id", pa.string()),
            ("suite", pa.string()),
            ("protocol", pa.string()),
            ("protocol_sha256", pa.string()),
            ("git_revision", pa.string()),
            ("versions", pa.map_(pa.string(), pa.string())),
            ("started_at", TIMESTAMP),
            ("ended_at", TIMESTAMP),
            ("status", pa.string()),
            ("policies", pa.string()),
        ]
    ),
}
"""Table name → schema. Contracts only grow: columns are added at the end of a version, never renamed or removed.

Units: `*_s` seconds, `*_ms` milliseconds, `*_w` watts, `*_mhz` megahertz, `*_c` degrees Celsius, `*_gb_s` 1e9 bytes
a second. `latency.memory_bytes` is the peak memory that the probed policy had taken by then: on the accelerator, or
resident on a CPU. `runs.protocol` is a JSON object: LIBERO suite → protocol manifest. `runs.policies` is a JSON
object: policy label → what is known of its origin (`provenance`, `warnings`, `serving`, …). `decisions.transport_ms` is
the time to a policy server and back, null for a policy in the episode's own process. `episodes.success` is null
exactly when `outcome` is "error".

`counts` holds what each component of a policy asks of its device, per call, `calls` times a decision (row `e2e`: the
whole): FLOPs (a multiply-add is two; by number format in `flops_by_format`), bytes of parameters, cache and
activations (`elementwise_bytes` apart: what a compiler can fuse away), operators, and on a GPU the kernels and the time
in which any of them ran (`busy_ms`).

`latency.variant` is what sets a probed policy apart from its reference, which runs eagerly and in the dtype of the
checkpoint; `latency.energy_j` is the device's energy in one decision (rows `e2e`); `latency.compile_s` is what the
first call of a compiled policy took beyond a usual one; `latency.shared` tells whether another process computed on the
accelerator. `differences` holds how far a variant's answers are from those of its reference (policy_id `reference`) on
the same observations and noise: least cosine, largest and root mean square difference, and, for scale, the root mean
square difference between the reference's own answers to different observations.

`nodes.matmul_by_format` is 1e12 FLOP a second by number format (bf16, tf32, fp32, …); `nodes.python_us` is the host's
time for one call of an empty module.
"""

OUTCOMES = ("success", "timeout", "error")
COMPONENTS = ("e2e", "preprocess", "vision", "prefix", "denoise_step", "postprocess", "transport")
