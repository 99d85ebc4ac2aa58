"""Fork processes from one that has done its imports: `python -m tests.support.fork_server SOCKET MODULE`.

The server imports the module, listens on the Unix socket, and forks a process for each request. A connection is one
request: a byte with three file descriptors, the process's standard streams, and a line of JSON. The response is a line
with the process's id, and later one with its wait status. A process whose connection closes is killed. The server ends
when no connection was open for some seconds, and removes the socket's directory.

Several test processes share a server, see `forked_process.py`.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import threading
import traceback
from importlib import import_module
from types import ModuleType
from typing import Any

PATIENCE_SECONDS = 10


class Children:
    """The running processes and the connections of their clients."""

    def __init__(self) -> None:
        self.by_pid: dict[int, socket.socket] = {}

    def kill_of(self, connection: socket.socket) -> None:
        """Kill the process of a closed connection."""
        for pid, of in self.by_pid.items():
            if of is connection:
                os.kill(pid, signal.SIGKILL)

    def collect(self) -> list[tuple[socket.socket, int]]:
        """Collect the processes that ended, and return their connections and wait statuses."""
        ended = []
        while self.by_pid:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            ended.append((self.by_pid.pop(pid), status))
        return ended


def serve(listener: socket.socket) -> dict[str, Any] | None:
    """Serve until no connection is open. Return the request in each forked process, and None in the server."""
    children, open_connections = Children(), set[socket.socket]()
    woken, wakes = socket.socketpair()
    for each in (woken, wakes):
        each.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno())
    with selectors.DefaultSelector() as selector:
        for each in (listener, woken):
            selector.register(each, selectors.EVENT_READ)
        while ready := selector.select(None if open_connections else PATIENCE_SECONDS):
            for connection in [key.fileobj for key, _ in ready]:
                assert isinstance(connection, socket.socket)
                if connection is listener:
                    accepted, _ = listener.accept()
                    open_connections.add(accepted)
                    selector.register(accepted, selectors.EVENT_READ)
                    continue
                if connection is woken:
                    woken.recv(1024)
                    for of, status in children.collect():
                        if of in open_connections:
                            of.sendall(b"%d\n" % status)
                    continue
                request, streams = _receive(connection)
                if request is None:
                    children.kill_of(connection)
                    selector.unregister(connection)
                    open_connections.remove(connection)
                    connection.close()
                elif pid := os.fork():
                    children.by_pid[pid] = connection
                    connection.sendall(b"%d\n" % pid)
                else:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for other in (listener, woken, wakes, *open_connections):
                        other.close()
                    for standard, stream in enumerate(streams):
                        os.dup2(stream, standard)
                    os.closerange(3, max(streams) + 1)
                    return request
                for stream in streams:
                    os.close(stream)
    return None


def _receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Return a request and its streams, or None if the connection was closed."""
    begun, streams, *_ = socket.recv_fds(connection, 1, 3)
    text = b""
    while begun and not text.endswith(b"\n"):
        begun = connection.recv(65_536)
        text += begun
    return (json.loads(text) if begun else None), streams


def run(request: dict[str, Any]) -> int:
    """Run the request's module or code as the main module, and return its exit code."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = [request["module"] or "-c", *request["arguments"]]
    try:
        if request["module"]:
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        else:
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(request["code"], "<string>", "exec"), vars(main))  # noqa: S102 - as `python -c` does
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001 - as Python's main program does
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    """Import the module, announce that the server is ready, and serve."""
    path, preloaded = sys.argv[1:]
    import_module(preloaded)
    gc.collect()
    gc.freeze()  # the children would copy each page on which the collector marks an object
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.new")
        listener.listen(64)
        os.rename(f"{path}.new", path)
        request = serve(listener)
    if request is None:
        shutil.rmtree(os.path.dirname(path))
        return
    code = run(request)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
