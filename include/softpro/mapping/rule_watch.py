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

from softpro.mapping.rule_messages import COUNTER_BYTES, LENGTH, Answer, Request

LONGEST_SECONDS = 0.7
"""Of one rule on one record. JSONata's own functions look at no clock, so the process is ended."""
WATCH_SECONDS = 0.05
# jsonatapy's allocator, and the C library's, else map more address space than they need: no limit would tell.
FRUGAL = {"MIMALLOC_ARENA_RESERVE": "0", "MALLOC_ARENA_MAX": "1"}

FATAL = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS}
"""How a process ends that gets no more memory, or no more stack. A SIGKILL is somebody else's doing."""

TOO_LONG = f"it was stopped after {LONGEST_SECONDS} s"
TOO_MUCH = "it was stopped: it takes too much memory, or nests too deeply"


class Ended(Exception):
    """The process is gone. `evaluation`: the one that ended it, counted from its start; None where none did."""

    def __init__(self, evaluation: int | None, why: str) -> None:
        self.evaluation, self.why = evaluation, why
        super().__init__(why)


class RuleProcess:
    """A process of `rule_process`, and the thread that watches it."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as shared:
            shared.truncate(COUNTER_BYTES)
            self._counter = memoryview(mmap.mmap(shared.fileno(), COUNTER_BYTES)).cast("Q")
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "softpro.mapping.rule_process", str(shared.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[shared.fileno()],
                # Nothing else: a rule has no business with what the environment holds.
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1", **FRUGAL},
            )
        self._too_long = False
        self._done = Event()
        self._watcher = Thread(target=self._watch, name="watch rules", daemon=True)
        self._watcher.start()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Answer).decode

    def send(self, request: Request) -> None:
        """Asks for something. That the process is gone is told by `receive`."""
        assert self._process.stdin is not None
        body = self._encode(request)
        with suppress(BrokenPipeError):
            self._process.stdin.write(LENGTH.pack(len(body)) + body)
            self._process.stdin.flush()

    def receive(self) -> Answer:
        """The next answer. Raises Ended."""
        assert self._process.stdout is not None
        header = self._process.stdout.read(LENGTH.size)
        body = self._process.stdout.read(*LENGTH.unpack(header)) if len(header) == LENGTH.size else b""
        if not body or len(body) < LENGTH.unpack(header)[0]:
            self._process.wait()
            begun, at_one = divmod(self._counter[0], 2)
            own_fault = self._too_long or self._process.returncode in FATAL
            raise Ended(begun if at_one and own_fault else None, TOO_LONG if self._too_long else TOO_MUCH)
        return self._decode(body)

    def end(self) -> None:
        """Lets the process end, or ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._done.set()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._watcher.join()

    def _watch(self) -> None:
        """Ends the process where one evaluation lasts too long: while it goes on, the counter is odd and stands."""
        seen, since = 0, time.monotonic()
        while not self._done.wait(WATCH_SECONDS):
            count = self._counter[0]
            if count != seen or count % 2 == 0:
                seen, since = count, time.monotonic()
            elif time.monotonic() - since > LONGEST_SECONDS:
                self._too_long = True
                self._process.kill()
                return
