"""LeRobot's training, every checkpoint handed over for evaluation; all of `lerobot-train`'s options.

    EVAL_OUTBOX=outputs/run7/outbox accelerate launch examples/lerobot_train.py --policy.type=smolvla … --save_freq=5000
    harness watch --outbox outputs/run7/outbox --suite libero_spatial               # another shell, machine or day

Leave LeRobot's own --env_eval_freq at 0: evaluation inside the loop makes every other rank wait in a collective.
"""

from __future__ import annotations

import os
import sys

from harness import EvalClient
from harness.watch.training.lerobot_hook import submit_checkpoints

if __name__ == "__main__":
    from lerobot.scripts.lerobot_train import main

    if outbox := os.environ.get("EVAL_OUTBOX"):
        submit_checkpoints(EvalClient(outbox))
    elif not {"-h", "--help"} & set(sys.argv):
        sys.exit("EVAL_OUTBOX is not set: name the folder that `harness watch --outbox` reads.")
    main()
