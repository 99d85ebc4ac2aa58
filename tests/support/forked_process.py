"""Run `python -m module` as a process that has its imports done already.

It is forked from a process that imported them once, as Airflow forks its tasks. The imports take longer than most
of what tests run in such a process.
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
# A child also imports the main module of this process.
_context.set_forkserver_preload(["pytest", "tests.support.forked_preload"])


@contextmanager
def forked(module: str, *arguments: str, environment: Mapping[str, str]) -> Iterator[tuple[BaseProcess, Path, Path]]:
    """Yield the process and the files with its standard output and error. The process ends with the context."""
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
