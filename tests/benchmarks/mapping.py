"""Mapping of transactions that are there, beside the whole of the floor: by the default set, and with rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from . import postgres_server
from .measurement import PRODUCTS, Measured, measure, median, say
from .product_process import ORGANIZATION, Product
from .targets import Target

TIMES = 3
TITLES = {"default": "the default set", "rules": "with five rules"}
LIMITS = {"default": 0.4, "rules": 1.2}


def measure_mapping(product: Product, transactions: int) -> dict[str, Measured]:
    """The medians by set, of a product whose transactions are all loaded."""
    found: dict[str, list[Measured]] = {name: [] for name in TITLES}
    for number in range(1, TIMES + 1):
        for name, each in found.items():
            postgres_server.settle(product.admin)
            job = {"organization": ORGANIZATION, "set": name, "transactions": transactions}
            each.append(measure(PRODUCTS, "jobs.mapping", job, product.settings))
            say(f"mapping {number} of {TIMES}, {TITLES[name]}: {each[-1].work:.2f} s")
    return {name: median(each) for name, each in found.items()}


def lines(found: Mapping[str, Measured], transactions: int) -> Iterator[str]:
    """The figures."""
    yield f"Mapping: {transactions:,} transactions from raw to staging, medians of {TIMES}"
    for name, each in found.items():
        each_record = each.work / transactions * 1e6
        yield f"  {TITLES[name]:16}{each.work:>10.2f} s{each_record:>10.1f} µs a record{each.memory / 1e6:>8.0f} MB"


def targets(found: Mapping[str, Measured], floor: Measured) -> Iterator[Target]:
    """Time beside what the floor takes for fetching, parsing and loading as many."""
    for name, each in found.items():
        yield Target(f"mapping {TITLES[name]}, over the floor's time", each.work / floor.work, LIMITS[name])
