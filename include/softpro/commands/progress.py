"""Progress bars on a terminal, silence elsewhere."""

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
    """Of a sync: records, and the stage it is in."""
    if not sys.stderr.isatty():
        yield (lambda fetched, total: None), (lambda name, came_to: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[came_to]}"), console=Console(stderr=True)) as bars:
        task = bars.add_task(entity_type.table, total=None, came_to="")
        yield (
            lambda fetched, total: bars.update(task, completed=fetched, total=total, came_to=""),
            lambda name, came_to: bars.update(task, description=f"{entity_type.table} {name}", came_to=came_to),
        )


@contextmanager
def rotation_bar() -> Iterator[Progress]:
    """Of a key rotation: secrets."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bars:
        task = bars.add_task("secrets", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
