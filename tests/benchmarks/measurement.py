"""Run a process and measure it from outside: seconds, CPU, memory."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil

from .measured_job import Job

ROOT = Path(__file__).resolve().parents[2]
PRODUCT_PYTHON = Path(sys.executable)
BASELINE_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
# One look at all processes takes milliseconds of a core, and their memory grows slowly.
LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Measured:
    """The figures of one process.

    CPU and memory include the child processes.

    Attributes:
        work: Seconds of its work, without imports.
        whole: Seconds from its start to its end.
        cpu: Seconds of CPU, user and system.
        memory: Sum of the peaks of all its processes, in bytes.
    """

    work: float
    whole: float
    cpu: float
    memory: float


def measure(python: Path, module: str, job: Job, environment: Mapping[str, str] | None = None) -> Measured:
    """Run a module of this package with a job and measure it.

    Raises:
        SystemExit: The module failed.
    """
    command = [str(python), "-m", f"{__package__}.{module}"]
    cpu, began = _cpu_of_children(), time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    peaks: dict[int, int] = {}
    watch = threading.Thread(target=_watch, args=(process, peaks))
    watch.start()
    out, _ = process.communicate(json.dumps(job))
    whole = time.perf_counter() - began
    watch.join()
    if process.returncode:
        raise SystemExit(f"{module} failed")
    reported = json.loads(out.splitlines()[-1])
    return Measured(reported["seconds"], whole, _cpu_of_children() - cpu, reported["memory"] + sum(peaks.values()))


def median(runs: Sequence[Measured]) -> Measured:
    """Return the median of each figure."""
    return Measured(*map(statistics.median, zip(*map(astuple, runs), strict=True)))


def say(what: str) -> None:
    """Print progress to standard error."""
    print(what, file=sys.stderr, flush=True)


def _watch(process: subprocess.Popen[str], peaks: dict[int, int]) -> None:
    """Record the most memory that each child of the process holds, by process id, until the process ends."""
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                peaks[child.pid] = max(peaks.get(child.pid, 0), child.memory_info().rss)
        time.sleep(LOOK_SECONDS)


def _cpu_of_children() -> float:
    """Return the CPU seconds of all ended child processes, and of their children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
