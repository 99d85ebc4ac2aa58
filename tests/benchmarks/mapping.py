"""Measure the mapping of landed transactions, by the default set and with rules, relative to the minimal load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from . import postgres_server
from .measurement import PRODUCT_PYTHON, Measured, measure, median, say
from .product_process import ORGANIZATION, Product
from .targets import Target

TIMES = 3
TITLES = {"default": "the default set", "rules": "with five rules"}
LIMITS = {"default": 0.4, "rules": 1.2}


def measure_mapping(product: Product, transactions: int) -> dict[str, Measured]:
    """Return the medians by mapping set. The product's transactions are all loaded."""
    found: dict[str, list[Measured]] = {name: [] for name in TITLES}
    for number in range(1, TIMES + 1):
        for name, each in found.items():
            postgres_server.settle(product.admin)
            job = {"organization": ORGANIZATION, "set": name, "transactions": transactions}
            each.append(measure(PRODUCT_PYTHON, "jobs.mapping", job, product.settings))
            say(f"mapping {number} of {TIMES}, {TITLES[name]}: {each[-1].work:.2f} s")
    return {name: median(each) for name, each in found.items()}


def lines(found: Mapping[str, Measured], transactions: int) -> Iterator[str]:
    """Yield the figures."""
    yield f"Mapping: {transactions:,} transactions from raw to staging, medians of {TIMES}"
    for name, each in found.items():
        each_record = each.work / transactions * 1e6
        yield f"  {TITLES[name]:16}{each.work:>10.2f} s{each_record:>10.1f} µs a record{each.memory / 1e6:>8.0f} MB"


def targets(found: Mapping[str, Measured], floor: Measured) -> Iterator[Target]:
    """Yield the targets: mapping time relative to fetching, parsing and loading in the minimal load."""
    for name, each in found.items():
        yield Target(f"mapping {TITLES[name]}, over the floor's time", each.work / floor.work, LIMITS[name])
