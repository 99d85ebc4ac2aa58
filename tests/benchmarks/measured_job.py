"""Run a job inside a measured process and print its figures. Needs only the standard library."""

from __future__ import annotations

import builtins
import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Job = dict[str, Any]


def run(work: Callable[[Job], float | None]) -> None:
    """Do the work with the job from standard input (JSON) and print `seconds` and `memory` as a line of JSON.

    `seconds` excludes the imports during the work. If the work returns a number, that number is printed instead.
    `memory` is this process's peak in bytes.
    """
    job = json.load(sys.stdin)
    imported = _time_imports()
    began = time.perf_counter()
    counted = work(job)
    seconds = time.perf_counter() - began - imported() if counted is None else counted
    print(json.dumps({"seconds": seconds, "memory": peak_memory()}))


def peak_memory() -> int:
    """Return the most memory that this process ever held, in bytes.

    On Linux getrusage also counts what the parent held when it started this process; /proc does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _time_imports() -> Callable[[], float]:
    """Start to add up how long this thread imports, and return a function that returns the seconds so far.

    All programs here import during their work. Only the work itself is compared, whichever way their authors chose.
    """
    original, thread = builtins.__import__, threading.get_ident()
    seconds, inside = 0.0, False

    def timed(*arguments: Any, **named: Any) -> Any:
        nonlocal seconds, inside
        if inside or threading.get_ident() != thread:
            return original(*arguments, **named)
        inside, began = True, time.perf_counter()
        try:
            return original(*arguments, **named)
        finally:
            inside, seconds = False, seconds + time.perf_counter() - began

    builtins.__import__ = timed
    return lambda: seconds
