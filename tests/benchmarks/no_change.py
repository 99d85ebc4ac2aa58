"""Measure a sync that finds nothing new: its requests, and its CPU beyond the imports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .measurement import PRODUCT_PYTHON, Measured, measure, median, say
from .product_process import Product
from .targets import Target

TIMES = 3


@dataclass(frozen=True)
class NoChange:
    """The medians of the syncs and of processes that only import, and the most requests of one sync."""

    sync: Measured
    imports: Measured
    requests: int

    @property
    def cpu(self) -> float:
        """Return the CPU seconds of a sync beyond the imports."""
        return self.sync.cpu - self.imports.cpu


def measure_quiet(product: Product) -> NoChange:
    """Sync a product whose transactions are all loaded, in turn with processes that only import."""
    syncs, imports, requests = [], [], []
    for number in range(1, TIMES + 1):
        before = product.requests()
        syncs.append(product.sync())
        requests.append(product.requests() - before)
        imports.append(measure(PRODUCT_PYTHON, "jobs.imports", {}))
        say(f"no change {number} of {TIMES}: {syncs[-1].cpu:.2f} s of CPU, imports {imports[-1].cpu:.2f} s")
    return NoChange(median(syncs), median(imports), max(requests))


def lines(found: NoChange) -> Iterator[str]:
    """Yield the figures."""
    yield f"No change: medians of {TIMES}"
    yield f"  requests: {found.requests}"
    yield f"  CPU: {found.sync.cpu:.2f} s, less {found.imports.cpu:.2f} s of a process that only imports"
    yield f"  process: {found.sync.whole:.2f} s, memory {found.sync.memory / 1e6:.0f} MB"


def targets(found: NoChange) -> Iterator[Target]:
    """Yield the target for the CPU beyond the imports."""
    yield Target("no change, CPU beyond the imports", found.cpu, 0.5, "s")
