"""Compare the figures with their targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A figure and its limit: an upper limit, or a lower one with `at_least`."""

    figure: str
    value: float
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def lines(targets: Iterable[Target]) -> Iterator[str]:
    """Yield a table of all targets."""
    yield f"{'Target':54}{'measured':>12}{'':4}{'wanted':18}met"
    for target in targets:
        wanted = f"{'at least' if target.at_least else 'at most'} {target.limit:.4g} {target.unit}"
        measured = f"{target.value:.2f}" if target.value < 100 else f"{target.value:.0f}"
        yield f"{target.figure:54}{measured:>12}{'':4}{wanted:18}{'yes' if target.met else 'NO'}"
