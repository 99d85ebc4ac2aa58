"""Measure the buffers that one sync of a few changes touches, in a large and in a small table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ..support.databases import one
from . import buffers
from .buffers import Statement
from .measurement import Measured, say
from .product_process import Product
from .targets import Target

SHOWN = 12


@dataclass(frozen=True)
class Incremental:
    """One sync of changes in a table with this many transactions, and the statements it ran."""

    transactions: int
    sync: Measured
    statements: list[Statement]

    def sum(self, figure: str) -> int:
        """Return the sum of a figure over all statements."""
        return sum(getattr(statement, figure) for statement in self.statements)


def measure_changes(product: Product, transactions: int, changes: int) -> Incremental:
    """Change records at the vendor and sync them.

    Raises:
        SystemExit: Not all changes arrived.
    """
    newest: datetime = one(product.database, "select max(softpro_updated_at) from roi.transactions")
    buffers.count_from_now(product.admin, product.name, product.database)
    changed = set(product.sandbox.change(product.sandbox.organizations[0], count=changes))
    sync = product.sync()
    statements = buffers.counted(product.admin, product.name)
    query = "select count(*) from roi.transactions where softpro_updated_at > %s"
    arrived = one(product.database, query, newest)
    if arrived != len(changed):
        raise SystemExit(f"{arrived} of {len(changed)} changes arrived")
    found = Incremental(transactions, sync, statements)
    say(f"{len(changed)} changed of {transactions:,}: {found.sum('touched'):,} buffers")
    return found


def lines(small: Incremental, large: Incremental, changes: int, *, verbose: bool) -> Iterator[str]:
    """Yield the sums of both syncs; with `verbose` the most expensive statements too."""
    yield f"Incremental cost: {changes} changed, buffers of 8 KiB"
    yield f"  {'in a table of':>14}{'touched':>12}{'dirtied':>12}{'written':>12}{'statements':>12}{'work':>10}"
    for each in (small, large):
        sums = "".join(f"{each.sum(figure):>12,}" for figure in ("touched", "dirtied", "written", "calls"))
        yield f"  {each.transactions:>14,}{sums}{each.sync.work:>8.2f} s"
    if verbose:
        for each in (small, large):
            yield ""
            yield f"  the dearest of {each.transactions:,}"
            yield f"  {'touched':>10}{'dirtied':>10}{'calls':>8}"
            yield from map(_line, each.statements[:SHOWN])


def targets(small: Incremental, large: Incremental) -> Iterator[Target]:
    """Yield the target for the buffers of the large table relative to the small one."""
    ratio = large.sum("touched") / small.sum("touched")
    yield Target(f"incremental, buffers at {large.transactions:,} over {small.transactions:,}", ratio, 1.2)


def _line(statement: Statement) -> str:
    query = textwrap.shorten(statement.query, 130, placeholder=" …")
    return f"  {statement.touched:>10,}{statement.dirtied:>10,}{statement.calls:>8,}  {query}"
