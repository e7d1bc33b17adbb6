"""Processors of `vla_flow`: batching and devices only, since the network holds its own statistics."""

from __future__ import annotations

from typing import Any

from lerobot.processor import make_default_pre_post_processors

from lerobot_policy_vla_flow.configuration_vla_flow import VlaFlowConfig


def make_vla_flow_pre_post_processors(config: VlaFlowConfig, dataset_stats: Any = None) -> tuple[Any, Any]:
    """Build LeRobot's default pipelines without statistics."""
    del dataset_stats
    return make_default_pre_post_processors(config, None, normalizer_device=config.device)
