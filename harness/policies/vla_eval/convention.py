"""vla-eval's words for what a benchmark sends and a model server answers, and whether they fit LIBERO's.

A server says in its HELLO which observation it expects and which action it gives (`observation_spec`, `action_spec`,
maps of a component's `format`, `dims` and `accepts`), and with which parameters a benchmark should be made
(`observation_params`). Source: vla-eval 0.8.0, `vla_eval.specs` and `benchmarks/libero/benchmark.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.policies.servers.convention import Disagreement
from harness.spec.action_space import ControlMode

RAW = "raw"
"""Format of a component of which nothing is declared."""
STATE_FORMAT, IMAGE_FORMAT = "eef_pos3_axisangle3_gripper2", "rgb_hwc_uint8"
ROTATION, GRIPPER = "axis_angle", "binary_close_positive"
POSITION: Mapping[ControlMode, str] = {"relative": "delta_xyz", "absolute": "absolute_xyz"}
HONOURED = ("send_wrist_image", "send_state", "quat_no_antipodal", "absolute_action")
"""Parameters that decide what is sent; the rest is for the suite's protocol to decide."""
WRIST, FRONT = "wrist", "agentview"
"""Names of the cameras, as vla-eval's LIBERO sends them."""


def action_spec(mode: ControlMode) -> dict[str, dict[str, Any]]:
    """What a policy of this project answers."""
    return {
        "position": {"name": "position", "dims": 3, "format": POSITION[mode]},
        "rotation": {"name": "rotation", "dims": 3, "format": ROTATION},
        "gripper": {"name": "gripper", "dims": 1, "format": GRIPPER},
    }


def observation_spec(wrist: bool) -> dict[str, dict[str, Any]]:
    """What a policy of this project reads."""
    frames = (FRONT, WRIST) if wrist else (FRONT,)
    return {
        **{name: {"name": name, "dims": 0, "format": IMAGE_FORMAT} for name in frames},
        "state": {"name": "state", "dims": 8, "format": STATE_FORMAT},
        "language": {"name": "language", "dims": 0, "format": "language"},
    }


def disagreements(payload: Mapping[str, Any], mode: ControlMode) -> list[Disagreement]:
    """What a server's HELLO declares otherwise than this client has it."""
    found = []
    for name, spec in _specs(payload.get("action_spec")).items():
        ours = action_spec(mode).get(name)
        if ours is None and spec.get("format") != RAW:
            found.append(Disagreement(f"action {name!r}", repr(spec.get("format")), "no such part of its actions"))
        elif ours is not None and not _takes(ours, spec):
            found.append(Disagreement(f"action {name!r}", repr(spec.get("format")), repr(ours["format"])))
    for name, spec in _specs(payload.get("observation_spec")).items():
        ours = observation_spec(True).get(name)
        if ours is None and spec.get("format") in (RAW, IMAGE_FORMAT):
            # Servers name frames as they like (image, primary), and take what comes in their order.
            continue
        if ours is None or not _takes(spec, ours):
            sent = "nothing of that name" if ours is None else repr(ours["format"])
            found.append(Disagreement(f"observation {name!r}", repr(spec.get("format")), sent))
    if "xvla" in str(payload.get("model_server")).lower():
        # Its server takes `states` where these are missing, without a word: 90 degrees about z away, as measured.
        found.append(Disagreement("state", "the controller's (controller_states)", "the observation's (states)"))
    absolute = _params(payload).get("absolute_action")
    if isinstance(absolute, bool) and absolute != (mode == "absolute"):
        found.append(Disagreement("actions", "absolute" if absolute else "relative", f"{mode} (control_mode)"))
    return found


def _takes(consumer: Mapping[str, Any], producer: Mapping[str, Any]) -> bool:
    accepted = consumer.get("accepts") or [consumer.get("format")]
    formats = {RAW, *(accepted if isinstance(accepted, list | tuple) else ())}
    return producer.get("format") in formats or consumer.get("format") == RAW


def unhonoured(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that a server asks for and this client leaves to the suite's protocol."""
    return {name: value for name, value in _params(payload).items() if name not in HONOURED}


def _params(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    params = payload.get("observation_params")
    return params if isinstance(params, Mapping) else {}


def wanted(payload: Mapping[str, Any], name: str) -> bool:
    """Whether a server asks for something by a parameter that is true."""
    return _params(payload).get(name) is True


def _specs(value: Any) -> dict[str, Mapping[str, Any]]:
    """Specs that can be read; another form declares nothing."""
    if not isinstance(value, Mapping):
        return {}
    return {str(name): spec for name, spec in value.items() if isinstance(spec, Mapping)}


def shortest(state: NDArray[np.float32]) -> NDArray[np.float32]:
    """A state whose rotation is the shorter of the two that lead to the same pose.

    LIBERO's evaluators keep whichever robosuite's quaternion gives; vla-eval's benchmark does so only when it is asked
    (`quat_no_antipodal`), and else turns by at most half a turn.

    Args:
        state: Shape (8,); its numbers 3 to 5 are an axis-angle, rad.
    """
    angle = float(np.linalg.norm(state[3:6]))
    if angle <= np.pi:
        return state
    turned = state.copy()
    turned[3:6] *= np.float32((angle - 2 * np.pi) / angle)
    return turned
