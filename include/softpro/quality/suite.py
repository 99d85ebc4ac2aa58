"""Read the expectations of an entity type from its file in `suites`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from softpro.entities import EntityType

SUITES = Path(__file__).parent / "suites"
EACH_MAPPED = "*"
"""Used in a file instead of a column: each column that a mapping fills. `batch` evaluates such an entry."""
ROWS_QUERY = "unexpected_rows_expectation"
"""The type of an expectation that is given as a query of the rows that break it."""


@dataclass(frozen=True)
class Expectation:
    """One expectation. `type` and `kwargs` are Great Expectations' own.

    Attributes:
        severity: critical or warning.
        column: the column, as reasons and results name it.
        shown: the arguments, as results keep them.
        message: the beginning of a rejected record's reason; the found value follows.
        found: an SQL expression for the found value.
        level: row, or batch if records are judged together.
        where: the batch sizes to which a batch expectation applies.
        label: the name in reasons and results, if it is not the type.
    """

    type: str
    kwargs: Mapping[str, Any]
    severity: str
    column: str
    shown: Mapping[str, Any]
    message: str
    found: str
    level: str = "row"
    where: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None

    @property
    def rule(self) -> str:
        """Return the name in reasons and results."""
        return self.label or self.type

    @property
    def name(self) -> str:
        """Return the name under which the sync log counts warnings."""
        return name(self.rule, self.column)


def name(expectation: str, column: str) -> str:
    """Return the name under which the sync log counts an expectation."""
    return f"{column} {expectation.removeprefix('expect_column_').removeprefix('values_to_')}"


def load_suite(entity_type: EntityType) -> list[dict[str, Any]]:
    """Read the suite's expectations from its file: type, kwargs, severity, and for some level and where."""
    suite: list[dict[str, Any]] = yaml.safe_load((SUITES / f"{entity_type.table}.yaml").read_text(encoding="utf-8"))
    return suite


@cache
def suite_of(entity_type: EntityType) -> tuple[Expectation, ...]:
    """Return the suite of an entity type."""
    return tuple(_read(entry) for entry in load_suite(entity_type))


def _read(entry: dict[str, Any]) -> Expectation:
    kwargs = entry["kwargs"]
    column = str(kwargs.get("column") or kwargs["column_A"])
    shown = {name: value for name, value in kwargs.items() if name != "column"}
    demand = entry["type"].removeprefix("expect_column_values_").replace("_", " ")
    return Expectation(
        **{**entry, "column": column, "shown": shown, "message": f"expected {demand} {shown}, found ", "found": column}
    )
