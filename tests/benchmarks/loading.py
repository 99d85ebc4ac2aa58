"""Measure what the outbox's triggers cost the loader, which writes nothing into the outbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median

from . import postgres_server
from .measurement import PRODUCT_PYTHON, measure, say
from .product_process import ORGANIZATION, Product
from .targets import Target

PAIRS = 5
TITLES = {False: "new rows", True: "rows that all change"}
LIMIT = 1.1

Pair = tuple[float, float]
"""Seconds with the triggers, and without."""


def measure_loading(product: Product, transactions: int) -> dict[bool, list[Pair]]:
    """Load into an empty table and over changing rows, in pairs with and without triggers, in alternating order."""
    found: dict[bool, list[Pair]] = {update: [] for update in TITLES}
    for number in range(1, PAIRS + 1):
        for update, pairs in found.items():
            seconds = {}
            for triggers in (True, False) if number % 2 else (False, True):
                postgres_server.settle(product.admin)
                job = {
                    "organization": ORGANIZATION,
                    "update": update,
                    "triggers": triggers,
                    "transactions": transactions,
                }
                seconds[triggers] = measure(PRODUCT_PYTHON, "jobs.loading", job, product.settings).work
            pairs.append((seconds[True], seconds[False]))
            say(f"load {number} of {PAIRS}, {TITLES[update]}: {seconds[True]:.2f} s, {seconds[False]:.2f} s without")
    return found


def lines(found: Mapping[bool, list[Pair]], transactions: int) -> Iterator[str]:
    """Yield the figures."""
    yield f"Loading: {transactions:,} staged transactions, {PAIRS} pairs, with the outbox's triggers and without"
    for update, pairs in found.items():
        with_them, without = (median(each) for each in zip(*pairs, strict=True))
        yield f"  {TITLES[update]:22}{with_them:>8.2f} s{without:>8.2f} s{median_ratio(pairs):>8.2f}"


def targets(found: Mapping[bool, list[Pair]]) -> Iterator[Target]:
    """Yield the targets for the medians of the pairs' ratios."""
    for update, pairs in found.items():
        yield Target(f"loading {TITLES[update]}, with triggers over without", median_ratio(pairs), LIMIT)


def median_ratio(pairs: list[Pair]) -> float:
    """Return the median ratio of the seconds with triggers to the seconds without."""
    return median(with_them / without for with_them, without in pairs)
