"""Run `make demo` as a user does: it shows what arrived, finds it again, and leaves nothing running.

The second run is killed while Airflow starts. With SOFTPRO_TEST_DEMO_TWICE=1 it shows what arrived before.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ..support.databases import memory_directory

COMMAND = [sys.executable, "-m", "softpro_demo", "--transactions", "230", "--contacts", "70"]
TWICE = os.environ.get("SOFTPRO_TEST_DEMO_TWICE") == "1"
KILLED_WHILE_STARTING, KILLED_WHILE_SHOWING = "starting Airflow …", "Press Ctrl-C"


def running_processes(home: Path) -> list[str]:
    """Return the processes that run on the demo's directory or were started from it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if any(str(home) in word for word in words) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(" ".join(process.cmdline()))
    return found


def wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)


@pytest.fixture
def home() -> Path:
    return memory_directory() / "demo"


def test_the_demo_shows_what_arrived_finds_it_again_and_leaves_nothing_however_it_ends(home: Path) -> None:
    first = subprocess.run([*COMMAND, "--home", str(home), "--exit"], capture_output=True, text=True, timeout=300)

    assert first.returncode == 0, first.stdout + first.stderr
    counts = {line.split()[1]: re.findall(r"[\d,.]+", line) for line in first.stdout.splitlines() if line[:1] == "│"}
    for table, number in (("transactions", "230"), ("contacts", "70")):
        fetched, loaded, quarantined, *_, in_roi, at_sandbox = counts[table]
        assert (fetched, loaded, quarantined, in_roi, at_sandbox) == (number, number, "0", number, number)
    assert re.search(r"A change at SoftPro was in roi \d+\.\d s later, by webhook\n", first.stdout)
    assert re.search(r"A change in roi was at SoftPro \d+\.\d s later\. Try it:\n  psql ", first.stdout)
    assert running_processes(home) == []

    with subprocess.Popen([*COMMAND, "--home", str(home)], stdout=subprocess.PIPE, text=True) as second:
        assert second.stdout is not None
        lines = []
        for line in second.stdout:
            lines.append(line)
            if (KILLED_WHILE_SHOWING if TWICE else KILLED_WHILE_STARTING) in line:
                break
        assert "Found earlier data: 230 transactions, 70 contacts\n" in lines
        # The first run may have ended in the middle of a task.
        assert any("A change at SoftPro was in roi" in line for line in lines) == TWICE
        wait_for(lambda: "triggerer" in " ".join(running_processes(home)))  # the component that starts last
        os.kill(second.pid, signal.SIGKILL)

    wait_for(lambda: running_processes(home) == [])
