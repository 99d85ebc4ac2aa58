"""Measure how time and memory of the product's first load grow with the number of transactions."""

from __future__ import annotations

from collections.abc import Iterator

from .measurement import Measured
from .targets import Target

# A tenth above proportional growth: a larger table has deeper indexes that fit less well into memory.
SLACK = 1.1
MEMORY = 300e6  # bytes


def lines(small: Measured, large: Measured, transactions: int, times: int) -> Iterator[str]:
    """Yield the figures of both loads."""
    yield f"Growth: first loads of {transactions:,} and of {transactions * times:,}"
    for size, each in ((transactions, small), (transactions * times, large)):
        yield (
            f"  {size:>12,}{each.work:>10.2f} s{size / each.work:>10,.0f} rows/s"
            f"{each.cpu:>10.2f} s CPU{each.memory / 1e6:>8.0f} MB"
        )


def targets(small: Measured, large: Measured, transactions: int, times: int) -> Iterator[Target]:
    """Yield the targets: time in proportion, memory below a fixed bound."""
    yield Target(f"growth, time of {times} times as many", large.work / small.work, times * SLACK)
    for size, each in ((transactions, small), (transactions * times, large)):
        yield Target(f"growth, peak memory at {size:,}", each.memory / 1e6, MEMORY / 1e6, "MB")
