"""A thread beside the fetching that applies what has been fetched, part by part."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from softpro.quality.expectations import great_expectations

MIN_PART, MAX_PART = 10_000, 100_000
"""Records that are worth a part of their own, and those that are worth no more waiting."""


@dataclass
class BackgroundLoad:
    """What is applied while more is fetched; `apply` applies all that is there."""

    thread: ThreadPoolExecutor
    apply: Callable[[], None]
    under_way: Future[None] | None = None
    fetched: int = 0

    def follow(self, fetched: int, total: int) -> None:
        """Told how many records were fetched, of how many: begins a part once there is enough for one. Raises what a
        part raised."""
        left = total - fetched
        part = min(MAX_PART, max(MIN_PART, left // 3))  # smaller ones near the end: the last one is waited for
        if fetched - self.fetched >= part and left >= MIN_PART:
            self.begin(fetched)

    def begin(self, fetched: int) -> None:
        """Begins a part, unless one is under way. Raises what one raised."""
        if self.under_way is None:
            great_expectations()  # for seconds; on the thread it would take turns with the fetching, and last longer
            gc.freeze()  # thousands of objects that stay, which no collection need look at
        elif self.under_way.done():
            self.under_way.result()
        else:
            return
        self.under_way, self.fetched = self.thread.submit(self.apply), fetched

    def wait(self) -> None:
        """Until no part is under way. Raises what one raised."""
        if self.under_way is not None:
            self.under_way.result()


@contextmanager
def background_load(apply: Callable[[], None]) -> Iterator[BackgroundLoad]:
    """Parts for as long as the block lasts; it ends with the part that is under way."""
    with ThreadPoolExecutor(1, "apply") as thread:
        yield BackgroundLoad(thread, apply)
