"""`python -m module` as a process of its own that has its imports behind it: forked from one that made them once, as
Airflow forks its tasks. They take longer than most of what the tests have such a process do.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

_context = multiprocessing.get_context("forkserver")
# A child imports as well what this process was started as.
_context.set_forkserver_preload(["pytest", "tests.support.forked_preload"])


@contextmanager
def forked(module: str, *arguments: str, environment: Mapping[str, str]) -> Iterator[tuple[BaseProcess, Path, Path]]:
    """The process, and the files with what it writes to its standard output and error. It does not outlive this."""
    with TemporaryDirectory() as directory:
        out, err = Path(directory, "out"), Path(directory, "err")
        process = _context.Process(target=_run, args=(module, arguments, dict(environment), out, err))
        process.start()
        try:
            yield process, out, err
        finally:
            process.kill()
            process.join()
            process.close()


def _run(module: str, arguments: tuple[str, ...], environment: dict[str, str], out: Path, err: Path) -> None:
    for standard, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), standard)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
