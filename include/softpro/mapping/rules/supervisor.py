"""Start and watch the process that evaluates rules, and end it if a rule does not end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

import msgspec
import psutil

from softpro.mapping.rules.account import COUNTER, Account, never
from softpro.mapping.rules.messages import LENGTH, RuleRequest, RuleResponse

MAX_CPU_SECONDS = 0.7
"""CPU time of one rule on one record. JSONata's own functions check no clock, so the process is ended."""
MAX_WALL_SECONDS = 10.0
"""Elapsed time, generous because a busy machine is not the rule's fault."""
POLL_SECONDS = 0.05
SHOWN_CHARACTERS = 200
# The allocators of jsonatapy and the C library map more address space than needed, which makes a limit useless.
ALLOCATOR_SETTINGS = {"MIMALLOC_ARENA_RESERVE": "0", "MALLOC_ARENA_MAX": "1"}

FATAL = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS}
"""Signals that end a process without memory or stack. A SIGKILL comes from outside."""

TOO_LONG = f"it was stopped after {MAX_CPU_SECONDS} s"
TOO_MUCH = "it was stopped: it takes too much memory, or nests too deeply"


class ProcessEnded(Exception):
    """The process has ended.

    Attributes:
        evaluation: the number of the running evaluation, counted from the start of the process, or None.
        why: how the evaluation ended the process, or otherwise the last line that the process printed.
        guilty: the running evaluation ended the process.
    """

    def __init__(self, evaluation: int | None, why: str, *, guilty: bool) -> None:
        self.evaluation, self.why, self.guilty = evaluation, why, guilty and evaluation is not None
        super().__init__(why)


class RuleProcess:
    """A process that evaluates rules, and the thread that watches it.

    The thread also ends the process as soon as `must_end` returns True.
    """

    def __init__(self, account: Account, must_end: Callable[[], bool] = never) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the process lives
        self._account, self._must_end = account.fields, must_end
        self._account[COUNTER] = 0
        shared = account.file.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "softpro.mapping.rules.process", str(shared)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            pass_fds=[shared],
            # Nothing else, because rules must not see the environment.
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1", **ALLOCATOR_SETTINGS},
        )
        self._stopped_at: int | None = None
        self._done = Event()
        self._watcher = Thread(target=self._watch, name="watch rules", daemon=True)
        self._watcher.start()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(RuleResponse).decode

    def send(self, request: RuleRequest) -> None:
        """Send a request. If the process has ended, `receive` raises the error."""
        assert self._process.stdin is not None
        body = self._encode(request)
        with suppress(BrokenPipeError):
            self._process.stdin.write(LENGTH.pack(len(body)) + body)
            self._process.stdin.flush()

    def receive(self) -> RuleResponse:
        """Return the next response.

        Raises:
            ProcessEnded: the process ended before it responded.
        """
        assert self._process.stdout is not None
        header = self._process.stdout.read(LENGTH.size)
        body = self._process.stdout.read(*LENGTH.unpack(header)) if len(header) == LENGTH.size else b""
        if not body or len(body) < LENGTH.unpack(header)[0]:
            self._process.wait()
            count = self._account[COUNTER]
            begun, at_one = divmod(count, 2)
            # The evaluation may have ended, and the next one begun, while the process was being stopped.
            too_long = self._stopped_at == count
            fatal = self._process.returncode in FATAL
            why = TOO_LONG if too_long else TOO_MUCH if fatal else self._last_error()
            raise ProcessEnded(begun if at_one else None, why, guilty=too_long or fatal)
        return self._decode(body)

    def end(self) -> None:
        """End the process, even during an evaluation."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._done.set()
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()
        self._watcher.join()

    def _last_error(self) -> str:
        """Return the last line that the process wrote to standard error, or its exit code."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:SHOWN_CHARACTERS] if lines else f"exit code {self._process.returncode}"

    def _watch(self) -> None:
        """End the process if it must end, or if one evaluation takes too long: the counter stays odd and unchanged."""
        seen = 0
        with suppress(psutil.NoSuchProcess):
            watched = psutil.Process(self._process.pid)
            since, worked = time.monotonic(), _cpu_seconds(watched)
            while not self._done.wait(POLL_SECONDS):
                if self._must_end():
                    self._process.kill()
                    return
                count = self._account[COUNTER]
                if count != seen or count % 2 == 0:
                    seen, since, worked = count, time.monotonic(), _cpu_seconds(watched)
                elif _cpu_seconds(watched) - worked > MAX_CPU_SECONDS or time.monotonic() - since > MAX_WALL_SECONDS:
                    self._stopped_at = count
                    self._process.kill()
                    return


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
