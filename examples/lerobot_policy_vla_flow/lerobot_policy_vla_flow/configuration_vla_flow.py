"""Configuration of `vla_flow`: the sizes of the network, and how it is sampled."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.optim import AdamWConfig

from harness.policies.flow import FlowConfig
from harness.policies.lerobot.families import LIBERO_KEYS
from harness.spec.observation import ACTION_DIM, CAMERAS


@PreTrainedConfig.register_subclass("vla_flow")
@dataclass
class VlaFlowConfig(PreTrainedConfig):  # type: ignore[misc]
    """A `FlowConfig` in LeRobot's clothes."""

    network: dict[str, Any] = field(default_factory=lambda: asdict(FlowConfig()))
    """Fields of `harness.policies.flow.FlowConfig`."""
    n_action_steps: int = 10
    """Actions of a chunk that are executed before the next decision."""
    num_inference_steps: int = 10
    """Function evaluations of one decision."""
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY)
    )
    """None: the network holds its own statistics."""

    def __post_init__(self) -> None:
        """Fill in LIBERO's features."""
        super().__post_init__()
        size = self.sizes.image_size
        frames = {LIBERO_KEYS[camera]: PolicyFeature(FeatureType.VISUAL, (3, size, size)) for camera in CAMERAS}
        state = {"observation.state": PolicyFeature(FeatureType.STATE, (8,))}
        self.input_features = self.input_features or {**frames, **state}
        self.output_features = self.output_features or {"action": PolicyFeature(FeatureType.ACTION, (ACTION_DIM,))}

    @classmethod
    def of(cls, sizes: FlowConfig, **changes: Any) -> VlaFlowConfig:
        """The configuration of a network of the harness."""
        given = {"n_action_steps": sizes.replan_interval, "num_inference_steps": sizes.default_nfe, **changes}
        return cls(network={**asdict(sizes), "channels": list(sizes.channels)}, **given)

    @property
    def sizes(self) -> FlowConfig:
        """The sizes of the network."""
        return FlowConfig(**self.network)

    @property
    def observation_delta_indices(self) -> None:
        """It looks at the present observation only."""
        return

    @property
    def action_delta_indices(self) -> list[int]:
        """It learns whole chunks."""
        return list(range(self.sizes.chunk_length))

    @property
    def reward_delta_indices(self) -> None:
        """It learns from no reward."""
        return

    def get_optimizer_preset(self) -> AdamWConfig:
        """Unused: it is trained by the harness's own script."""
        return AdamWConfig()

    def get_scheduler_preset(self) -> None:
        """None."""
        return

    def validate_features(self) -> None:
        """Check that both cameras and the state are there.

        Raises:
            ValueError: Names what is missing.
        """
        missing = {*LIBERO_KEYS.values(), "observation.state"} - set(self.input_features)
        if missing:
            raise ValueError(f"vla_flow reads {', '.join(sorted(missing))}, which the dataset or environment lacks.")
