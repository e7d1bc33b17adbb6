"""When a batch of decisions starts, and how large batches are worth it. Pure: a server, real or simulated, asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WORTH = 1.1
"""A larger batch has to serve this many times as many decisions a second to be worth it."""
WAIT_SHARE = 0.1
"""Share of a lone decision's own time that it may wait for company."""
MAX_WAIT_S = 0.05
"""Longest wait, seconds: one control step at 20 Hz."""


MIN_GAPS = 8
"""Gaps between arrivals below which nothing is known of them."""


def buckets(max_batch: int) -> tuple[int, ...]:
    """Batch sizes that a server runs at when each has to be recorded first: powers of two, and the largest batch."""
    sizes = [1]
    while 2 * sizes[-1] < max_batch:
        sizes.append(2 * sizes[-1])
    return tuple(dict.fromkeys([*sizes, max_batch]))


def bucket_of(n: int, sizes: Sequence[int]) -> int:
    """The smallest of the `sizes` that holds `n` requests; `n` itself where none does, or there are none."""
    return min((size for size in sizes if size >= n), default=n)


def patience(gaps_s: Sequence[float], longest_s: float) -> float:
    """How long a request should wait for another, from how requests came lately.

    Waiting is worth it where at least every second request was followed by another within the longest wait; then nine
    in ten of those are waited for. A request that would most likely wait in vain goes at once.

    Args:
        gaps_s: Seconds between arrivals, lately.
        longest_s: Longest wait, seconds.

    Returns:
        Seconds, at most `longest_s`; that itself while too little is known.
    """
    if len(gaps_s) < MIN_GAPS:
        return longest_s
    near = sorted(gap for gap in gaps_s if gap <= longest_s)
    if 2 * len(near) < len(gaps_s):
        return 0.0
    return near[min(len(near) - 1, int(0.9 * len(near)))]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Requests at one NFE that wait for a batch."""

    since: float
    """When the oldest came, monotonic seconds."""
    n: int


def next_batch(
    groups: Mapping[int | None, Waiting], now: float, *, max_batch: int, max_wait_s: float, n_clients: int | None
) -> tuple[int | None, float]:
    """Decide which group goes next, and when.

    A batch starts when it is full, when its oldest request has waited `max_wait_s`, or when every client is waiting,
    so that a lone client never waits.

    Args:
        groups: NFE → its requests; not empty.
        now: Monotonic seconds.
        max_batch: Largest batch.
        max_wait_s: Longest time that a request waits for others, seconds.
        n_clients: Who may ask, if known.

    Returns:
        (NFE of the group with the oldest request, seconds until it goes if nothing else comes: 0 for now).
    """
    nfe = min(groups, key=lambda key: groups[key].since)
    everyone = n_clients is not None and sum(group.n for group in groups.values()) >= n_clients
    if everyone or groups[nfe].n >= max_batch:
        return nfe, 0.0
    return nfe, max(max_wait_s - (now - groups[nfe].since), 0.0)


def choose_batch(measured: Mapping[int, float]) -> tuple[int, float]:
    """Choose from measured latencies.

    The smallest batch that serves nearly as many decisions a second as the best one; and a wait of `WAIT_SHARE` of a
    lone decision, so that it costs at most that much where nobody else comes. Where batching gains nothing, nobody
    waits.

    Args:
        measured: Batch size → latency, seconds; not empty.

    Returns:
        (largest batch, longest wait in seconds).
    """
    rates = {size: size / max(seconds, 1e-9) for size, seconds in measured.items()}
    best = min(size for size, rate in rates.items() if rate * WORTH >= max(rates.values()))
    return best, min(WAIT_SHARE * measured[min(measured)], MAX_WAIT_S) if best > 1 else 0.0
