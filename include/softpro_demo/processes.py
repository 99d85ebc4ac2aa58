"""Child processes that never outlive the demo, however it ends.

All of them carry a mark in their environment. A reaper, a process of its own, waits until the demo's end of a pipe closes
(at its exit, an exception, a kill -9) and then stops everything that carries the mark, and the embedded PostgreSQL.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from pathlib import Path

import psutil

MARK = "SOFTPRO_DEMO_MARK"
PATIENCE_SECONDS = 10


class Processes:
    """Starts marked processes, each with a log file below `logs`; stops them all when closed."""

    def __init__(self, logs: Path, postgres: Path) -> None:
        self.logs = logs
        self.mark = str(uuid.uuid4())
        logs.mkdir(parents=True, exist_ok=True)
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", "softpro_demo.processes", self.mark, str(postgres)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Starts a process that logs to `<name>.log`."""
        with (self.logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                env={**os.environ, **environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def close(self) -> None:
        """Stops everything and waits until it is gone."""
        if self._reaper.stdin is not None:
            self._reaper.stdin.close()
        self._reaper.wait()


def reap(mark: str, postgres: Path) -> None:
    """Waits for the end of standard input, then stops all processes with the mark and this PostgreSQL."""
    sys.stdin.buffer.read()
    marked = list(_marked(mark))
    for process in marked:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(marked, timeout=PATIENCE_SECONDS)
    for process in _marked(mark):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    if (postgres / "postmaster.pid").exists():
        from softpro.store import embedded

        embedded.start(postgres)  # joins it; being the last to leave, this process stops it


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
    return found


if __name__ == "__main__":
    reap(sys.argv[1], Path(sys.argv[2]))
