"""The alarm."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from harness.rollout.limits import Alarm, AlarmRang


def test_a_block_is_interrupted_when_its_time_is_up(alarm):
    began = time.perf_counter()
    with pytest.raises(AlarmRang), alarm.limit(0.1):
        time.sleep(30)
    assert time.perf_counter() - began < 5


def test_a_loop_without_a_system_call_is_interrupted_too(alarm):
    with pytest.raises(AlarmRang), alarm.limit(0.1):  # noqa: PT012
        while True:
            pass


def test_a_block_in_time_is_left_alone_and_so_is_what_follows(alarm):
    with alarm.limit(0.05):
        pass
    time.sleep(0.1)


def test_it_can_be_used_again_and_again(alarm):
    for _ in range(3):
        with pytest.raises(AlarmRang), alarm.limit(0.05):
            time.sleep(10)


def test_outside_the_main_thread_it_says_that_it_does_not_work():
    found = []

    def use():
        alarm = Alarm()
        with alarm.limit(0.01):
            time.sleep(0.05)
        found.append(alarm.works)
        alarm.close()

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert found == [False]


def test_closing_gives_the_signal_back():
    before = signal.getsignal(signal.SIGALRM)
    Alarm().close()
    assert signal.getsignal(signal.SIGALRM) is before
