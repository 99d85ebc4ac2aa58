"""Show progress bars on a terminal, and nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from softpro.entities import EntityType

if TYPE_CHECKING:
    from softpro.runs.pipeline import Stage
    from softpro.sync.extract import Progress


@contextmanager
def progress_bar(entity_type: EntityType) -> Iterator[tuple[Progress, Stage]]:
    """Show the records that a sync has fetched, and the stage it is in."""
    if not sys.stderr.isatty():
        yield (lambda fetched, total: None), (lambda name, result: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[result]}"), console=Console(stderr=True)) as bars:
        task = bars.add_task(entity_type.table, total=None, result="")
        yield (
            lambda fetched, total: bars.update(task, completed=fetched, total=total, result=""),
            lambda name, result: bars.update(task, description=f"{entity_type.table} {name}", result=result),
        )


@contextmanager
def rotation_bar() -> Iterator[Progress]:
    """Show the secrets that a key rotation has processed."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bars:
        task = bars.add_task("secrets", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
