"""Load fetched records in parts on a background thread, while more are being fetched."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from softpro.quality.expectations import great_expectations

MIN_PART, MAX_PART = 10_000, 100_000
"""The smallest part worth loading on its own, and the size at which a part no longer waits, in records."""


@dataclass
class BackgroundLoad:
    """A load in parts on a background thread.

    Attributes:
        thread: the executor with that one thread.
        apply: transforms, checks and loads all pending records.
        under_way: the part that is being loaded.
        fetched: the number of records fetched when that part began.
    """

    thread: ThreadPoolExecutor
    apply: Callable[[], None]
    under_way: Future[None] | None = None
    fetched: int = 0

    def follow(self, fetched: int, total: int) -> None:
        """Start a background load once enough records are fetched. Raises the error of an earlier part.

        Args:
            fetched: the number of records fetched so far.
            total: that number plus the records left in the list.
        """
        left = total - fetched
        part = min(MAX_PART, max(MIN_PART, left // 3))  # smaller parts near the end, because the run waits for the last
        if fetched - self.fetched >= part and left >= MIN_PART:
            self.begin(fetched)

    def begin(self, fetched: int) -> None:
        """Start a part unless one is in progress. Raises the error of an earlier part."""
        if self.under_way is None:
            great_expectations()  # takes seconds, and longer on the thread, which shares the interpreter with the fetch
            gc.freeze()  # thousands of permanent objects that no collection needs to examine
        elif self.under_way.done():
            self.under_way.result()
        else:
            return
        self.under_way, self.fetched = self.thread.submit(self.apply), fetched

    def wait(self) -> None:
        """Wait until no part is in progress. Raises the error of an earlier part."""
        if self.under_way is not None:
            self.under_way.result()


@contextmanager
def background_load(apply: Callable[[], None]) -> Iterator[BackgroundLoad]:
    """Yield a background load for the block, which ends once the part in progress ends."""
    with ThreadPoolExecutor(1, "apply") as thread:
        yield BackgroundLoad(thread, apply)
