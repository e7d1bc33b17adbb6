"""`flow`, vla-harness's small flow-matching policy, as a LeRobot policy of type `vla_flow`."""

from lerobot_policy_vla_flow.configuration_vla_flow import VlaFlowConfig

__all__ = ["VlaFlowConfig"]
