"""The process that evaluates rules, as seen from outside: started, watched, and ended where a rule does not end."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from threading import Event, Thread

import msgspec
import psutil

from softpro.mapping.rules.messages import COUNTER_BYTES, LENGTH, RuleRequest, RuleResponse

LONGEST_SECONDS = 0.7
"""Of the CPU, for one rule on one record. JSONata's own functions look at no clock, so the process is ended."""
LONGEST_WAIT_SECONDS = 10.0
"""By the clock on the wall: a busy machine is not the rule's fault."""
WATCH_SECONDS = 0.05
SHOWN_CHARACTERS = 200
# jsonatapy's allocator, and the C library's, else map more address space than they need: no limit would tell.
FRUGAL = {"MIMALLOC_ARENA_RESERVE": "0", "MALLOC_ARENA_MAX": "1"}

FATAL = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS}
"""How a process ends that gets no more memory, or no more stack. A SIGKILL is somebody else's doing."""

TOO_LONG = f"it was stopped after {LONGEST_SECONDS} s"
TOO_MUCH = "it was stopped: it takes too much memory, or nests too deeply"


class Ended(Exception):
    """The process is gone. `evaluation`: the one it was at, counted from its start; None where it was at none.
    `guilty`: that one has ended it; `why` says how, or, where none is guilty, what the process said last."""

    def __init__(self, evaluation: int | None, why: str, *, guilty: bool) -> None:
        self.evaluation, self.why, self.guilty = evaluation, why, guilty and evaluation is not None
        super().__init__(why)


class RuleProcess:
    """A process of `rule_process`, and the thread that watches it."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the process lives
        with tempfile.TemporaryFile() as shared:
            shared.truncate(COUNTER_BYTES)
            self._counter = memoryview(mmap.mmap(shared.fileno(), COUNTER_BYTES)).cast("Q")
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "softpro.mapping.rules.process", str(shared.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                pass_fds=[shared.fileno()],
                # Nothing else: a rule has no business with what the environment holds.
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1", **FRUGAL},
            )
        self._stood_at: int | None = None
        self._done = Event()
        self._watcher = Thread(target=self._watch, name="watch rules", daemon=True)
        self._watcher.start()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(RuleResponse).decode

    def send(self, request: RuleRequest) -> None:
        """Asks for something. That the process is gone is told by `receive`."""
        assert self._process.stdin is not None
        body = self._encode(request)
        with suppress(BrokenPipeError):
            self._process.stdin.write(LENGTH.pack(len(body)) + body)
            self._process.stdin.flush()

    def receive(self) -> RuleResponse:
        """The next answer. Raises Ended."""
        assert self._process.stdout is not None
        header = self._process.stdout.read(LENGTH.size)
        body = self._process.stdout.read(*LENGTH.unpack(header)) if len(header) == LENGTH.size else b""
        if not body or len(body) < LENGTH.unpack(header)[0]:
            self._process.wait()
            count = self._counter[0]
            begun, at_one = divmod(count, 2)
            # It may have come to an end, and to the next one, while it was being stopped.
            too_long = self._stood_at == count
            fatal = self._process.returncode in FATAL
            why = TOO_LONG if too_long else TOO_MUCH if fatal else self._said()
            raise Ended(begun if at_one else None, why, guilty=too_long or fatal)
        return self._decode(body)

    def end(self) -> None:
        """Ends the process, whatever it is at."""
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

    def _said(self) -> str:
        """The last line that the process wrote to standard error, or how it ended."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:SHOWN_CHARACTERS] if lines else f"exit code {self._process.returncode}"

    def _watch(self) -> None:
        """Ends the process where one evaluation lasts too long: while it goes on, the counter is odd and stands."""
        seen = 0
        with suppress(psutil.NoSuchProcess):
            watched = psutil.Process(self._process.pid)
            since, worked = time.monotonic(), _cpu_seconds(watched)
            while not self._done.wait(WATCH_SECONDS):
                count = self._counter[0]
                if count != seen or count % 2 == 0:
                    seen, since, worked = count, time.monotonic(), _cpu_seconds(watched)
                elif (
                    _cpu_seconds(watched) - worked > LONGEST_SECONDS or time.monotonic() - since > LONGEST_WAIT_SECONDS
                ):
                    self._stood_at = count
                    self._process.kill()
                    return


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
