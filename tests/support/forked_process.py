"""Start Python processes that have their imports done already.

They are forked from a process that imported once what they need, as Airflow forks its tasks. The imports take longer
than most of what tests run in such a process. All test processes of a run share one such process for each preloaded
module.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PRODUCT, AIRFLOW = "tests.support.forked_preload", "tests.support.forked_preload_airflow"
START_SECONDS = 120
ROOT = Path(__file__).resolve().parents[2]

_kept_open: dict[str, socket.socket] = {}


class ForkedProcess(subprocess.Popen[str]):
    """A `subprocess.Popen` whose process is forked by a server instead of started by this one.

    Only the methods that start a process and wait for it differ. They have the names that Popen gives them.
    """

    def __init__(
        self,
        module: str | None = None,
        *arguments: str,
        code: str = "",
        environment: Mapping[str, str],
        preloaded: str = PRODUCT,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> None:
        """Run `python -m module`, or `python -c code`.

        Args:
            module: the module to run.
            arguments: its arguments.
            code: the code to run if there is no module.
            environment: the whole environment of the process.
            preloaded: `PRODUCT` or `AIRFLOW`: what the process has imported.
            stdin: as for Popen, like `stdout` and `stderr`.
            stdout: see `stdin`.
            stderr: see `stdin`.
        """
        self._request = {
            "module": module,
            "code": code,
            "arguments": arguments,
            "environment": dict(environment),
            "cwd": os.getcwd(),
        }
        self._preloaded = preloaded
        super().__init__([module or "-c", *arguments], stdin=stdin, stdout=stdout, stderr=stderr, text=True)

    def _execute_child(self, *options: Any) -> None:
        """Let the server fork the process. Positions 10 to 15 of the options are the pipes of the standard streams."""
        pipes = options[10:16]
        to_child, _, _, from_child, _, errors = pipes
        streams = [standard if given == -1 else given for standard, given in enumerate((to_child, from_child, errors))]
        self._server = _connect(self._preloaded)
        socket.send_fds(self._server, [b"x"], streams)
        self._server.sendall(json.dumps(self._request).encode() + b"\n")
        self._responses = self._server.makefile("rb", buffering=0)
        self.pid = int(self._responses.readline())
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        poll: int | None = super()._internal_poll(_deadstate, _waitpid=self._wait_for_status)  # type: ignore[misc]
        return poll

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        return self._wait_for_status(self.pid, wait_flags)

    def _wait_for_status(self, pid: int, flags: int) -> tuple[int, int]:
        """Return what `os.waitpid` would for a child of this process."""
        if flags & os.WNOHANG and not select.select([self._server], [], [], 0)[0]:
            return 0, 0
        status = int(self._responses.readline())
        self._responses.close()
        self._server.close()
        return pid, status


def run_code(
    code: str,
    *arguments: str,
    environment: Mapping[str, str],
    preloaded: str = PRODUCT,
    given: str = "",
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run `python -c code` with `given` as its input, and return its output and exit code."""
    with ForkedProcess(
        None,
        *arguments,
        code=code,
        environment=environment,
        preloaded=preloaded,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            out, err = process.communicate(given, timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@contextmanager
def forked(module: str, *arguments: str, environment: Mapping[str, str]) -> Iterator[tuple[ForkedProcess, Path, Path]]:
    """Yield the process and the files with its standard output and error. The process ends with the context."""
    with tempfile.TemporaryDirectory() as directory:
        out, err = Path(directory, "out"), Path(directory, "err")
        with out.open("w") as to_out, err.open("w") as to_err:
            process = ForkedProcess(
                module, *arguments, environment=environment, stdin=subprocess.DEVNULL, stdout=to_out, stderr=to_err
            )
        try:
            yield process, out, err
        finally:
            process.kill()
            process.wait()


def _connect(preloaded: str) -> socket.socket:
    """Return a connection to the server of this test run, and start the server on the first use."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    directory = Path(tempfile.gettempdir(), f"softpro-tests-{run}-{preloaded.rpartition('_')[2]}")
    directory.mkdir(mode=0o700, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = directory / "socket"
        if not path.exists():
            _start(directory, path, preloaded)
        if preloaded not in _kept_open:  # the server ends some seconds after its last connection
            _kept_open[preloaded] = _connected(path)
        return _connected(path)


def _start(directory: Path, path: Path, preloaded: str) -> None:
    """Start the server and wait until it listens."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SOFTPRO"))}
    environment = {
        **inherited,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins"), *sys.path]),
        "AIRFLOW_HOME": str(directory / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    log = directory / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.support.fork_server", str(path), preloaded],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # it ends after the tests, which may still stop their processes
        )
    server.returncode = 0  # it outlives this process, which need not collect it
    deadline = time.monotonic() + START_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection
