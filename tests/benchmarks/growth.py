"""The product's first load of some times as many transactions: time and memory."""

from __future__ import annotations

from collections.abc import Iterator

from .measurement import Measured
from .targets import Target

# A tenth more than in proportion: the indexes of a larger table are deeper, and fit less well into memory.
SLACK = 1.1
MEMORY = 300e6  # bytes


def lines(small: Measured, large: Measured, transactions: int, times: int) -> Iterator[str]:
    """The figures of both loads."""
    yield f"Growth: first loads of {transactions:,} and of {transactions * times:,}"
    for size, each in ((transactions, small), (transactions * times, large)):
        yield (
            f"  {size:>12,}{each.work:>10.2f} s{size / each.work:>10,.0f} rows/s"
            f"{each.cpu:>10.2f} s CPU{each.memory / 1e6:>8.0f} MB"
        )


def targets(small: Measured, large: Measured, transactions: int, times: int) -> Iterator[Target]:
    """Time in proportion, memory under a bound that does not grow."""
    yield Target(f"growth, time of {times} times as many", large.work / small.work, times * SLACK)
    for size, each in ((transactions, small), (transactions * times, large)):
        yield Target(f"growth, peak memory at {size:,}", each.memory / 1e6, MEMORY / 1e6, "MB")
