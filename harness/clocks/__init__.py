"""The protocol's clocks: how simulated time passes while a policy decides. Time is virtual but under `wall`.

A decision's delay is a whole number of control steps, from its observation to its action in hand; where it comes from
is handed over as data (`harness.clocks.delays`). `harness.clocks.clock` says what the robot does meanwhile.
"""

from harness.clocks.clock import CLOCK_OF, VIRTUAL, Clock, Move
from harness.clocks.delays import Delay, DelaySamples, DelaySource, delay_steps
from harness.clocks.timing import IN_NO_TIME, Timing

__all__ = [
    "CLOCK_OF",
    "IN_NO_TIME",
    "VIRTUAL",
    "Clock",
    "Delay",
    "DelaySamples",
    "DelaySource",
    "Move",
    "Timing",
    "delay_steps",
]
