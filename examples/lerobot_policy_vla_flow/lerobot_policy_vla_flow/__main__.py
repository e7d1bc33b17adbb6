"""Turn a checkpoint of the harness into one of LeRobot: `python -m lerobot_policy_vla_flow FLOW_FOLDER OUT`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lerobot_policy_vla_flow.modeling_vla_flow import VlaFlowPolicy
from lerobot_policy_vla_flow.processor_vla_flow import make_vla_flow_pre_post_processors


def main(argv: Sequence[str]) -> None:
    """Convert: weights, configuration, processors."""
    source, target = argv
    policy = VlaFlowPolicy.from_harness(source)
    policy.save_pretrained(target)
    for processor in make_vla_flow_pre_post_processors(policy.config):
        processor.save_pretrained(target)


if __name__ == "__main__":
    main(sys.argv[1:])
