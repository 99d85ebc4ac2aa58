"""Run child processes that never outlive the demo, however it ends.

A reaper, a separate process, reads the id of each child from a pipe. The pipe closes when the demo exits, fails or is
killed. Then the reaper stops the children with all their descendants, and the embedded PostgreSQL.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import psutil

STOP_TIMEOUT_SECONDS = 5


class Processes:
    """Child processes, each with its own session and a log file below `logs`. `close` stops them all."""

    def __init__(self, logs: Path, postgres: Path) -> None:
        self.logs = logs
        self._children: list[subprocess.Popen[bytes]] = []
        logs.mkdir(parents=True, exist_ok=True)
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", "softpro_demo.processes", str(postgres)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not reach it
        )

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a process that logs to `<name>.log`."""
        with (self.logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                command,
                # DEV makes Airflow's console print the locals of a traceback, including tokens
                env={name: value for name, value in {**os.environ, **environment}.items() if name != "DEV"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children.append(child)
        self._pipe.write(b"%d\n" % child.pid)
        self._pipe.flush()
        return child

    def close(self) -> None:
        """Stop all processes and wait until they have ended."""
        self._pipe.close()
        for process in (self._reaper, *self._children):
            process.wait()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._reaper.stdin is not None
        return self._reaper.stdin


def reap(children: IO[bytes], postgres: Path) -> None:
    """Wait for the end of the list of children, then stop them and this PostgreSQL."""
    sessions = {int(line) for line in children.read().split()}
    members = _members(sessions)
    for process in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    while any(map(_is_running, members)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in {*members, *_members(sessions)}:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    if (postgres / "postmaster.pid").exists():
        from softpro.db import embedded

        embedded.start(postgres)  # join the server; the last process to leave stops it


def _is_running(process: psutil.Process) -> bool:
    """Return whether a process runs. A zombie does not: its parent may wait for this process before it collects it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _members(sessions: set[int]) -> list[psutil.Process]:
    """List the processes of these sessions, and their descendants in sessions of their own."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) in sessions:
                found |= {process, *process.children(recursive=True)}
    return list(found)


if __name__ == "__main__":
    reap(sys.stdin.buffer, Path(sys.argv[1]))
