"""A second process beside this one, for work that would else take turns with this one's."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from softpro.errors import SoftProError


@contextmanager
def beside() -> Iterator[ProcessPoolExecutor]:
    """A process that starts with the first work it is given, and ends with the block or with this process.

    Raises SoftProError where it was killed.
    """
    context = multiprocessing.get_context("spawn")  # a fork would share database connections and threads' locks
    try:
        with ProcessPoolExecutor(1, context, initializer=_live_as_long_as_the_parent) as process:
            yield process
    except BrokenProcessPool:
        raise SoftProError("The process that maps, checks and loads was killed (is there too little memory?)") from None


def _live_as_long_as_the_parent() -> None:
    """The parent decides what a Ctrl+C means; and where it is killed, nobody else would end this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # what was imported stays
    threading.Thread(target=_end_with_the_parent, name="parent", daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
