"""Frames that go through shared memory. Writer and reader are two processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import replace
from multiprocessing.connection import Connection

import numpy as np
import pytest

from harness.cluster.frames import FrameReader, FrameWriter
from harness.spec.observation import Observation

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memfd is Linux's")


def seen(seed: int, side: int = 64) -> Observation:
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (side, side, 3), np.uint8) for name in ("agentview", "wrist")}
    return Observation("put it there", np.arange(8, dtype=np.float32), images=images, episode_key="k", decision=seed)


def equal(one: Observation, other: Observation) -> bool:
    rest = replace(one, images={}, state=other.state) == replace(other, images={})
    same = one.images.keys() == other.images.keys() and np.array_equal(one.state, other.state)
    return rest and same and all(np.array_equal(one.images[name], other.images[name]) for name in one.images)


def read_on(connection: Connection) -> None:
    """Body of the reading process: says what it reads, until told to stop."""
    reader = FrameReader()
    while (asked := connection.recv()) is not None:
        connection.send(reader.read(*asked))


def test_another_process_reads_every_frame_bit_by_bit_and_the_message_holds_none() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=read_on, args=(theirs,))
    process.start()
    writer = FrameWriter()
    try:
        for seed, side in enumerate((64, 64, 96, 32, 96)):
            observation = seen(seed, side)
            bare, where = writer.write(observation)
            assert (dict(bare.images), where is not None) == ({}, True)
            ours.send((bare, where))
            assert equal(ours.recv(), observation)
    finally:
        ours.send(None)
        process.join(30)


def test_what_is_still_being_read_is_not_overwritten_after_a_timeout() -> None:
    writer, reader = FrameWriter(), FrameReader()
    late = reader.read(*writer.write(seen(1)))
    writer.renew()
    reader.read(*writer.write(seen(2)))
    assert equal(late, seen(1))
    # Without a timeout, the same memory is used again: nothing grows.
    first = writer.write(seen(3))[1]
    assert first == writer.write(seen(4))[1]
    assert len(reader._open) == 1


def test_a_reader_that_cannot_look_says_so_before_any_decision() -> None:
    writer, reader = FrameWriter(), FrameReader()
    where = writer.write_proof(b"0123456789abcdef")
    assert where is not None
    assert reader.peek(where) == b"0123456789abcdef"
    assert FrameReader().peek(replace(where, pid=2**22 + 1)) is None
    with open(os.devnull) as elsewhere:
        assert FrameReader().peek(replace(where, fd=elsewhere.fileno())) is None


def test_observations_without_frames_or_with_earlier_ones_go_as_they_are() -> None:
    writer = FrameWriter()
    bare = replace(seen(0), images={})
    assert writer.write(bare) == (bare, None)
    with_past = replace(seen(1), history=(seen(0),))
    assert writer.write(with_past) == (with_past, None)
