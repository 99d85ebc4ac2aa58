"""What is expected of what a run stages: an entity's suite, as its file in `suites` has it."""

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
"""In a file, in place of a column: each one that a mapping fills. Such an entry is judged by `batch.py`."""
ROWS_QUERY = "unexpected_rows_expectation"
"""The type of an expectation that is a query of the rows that break it."""


@dataclass(frozen=True)
class Expectation:
    """One thing that is expected. `type` and `kwargs` are Great Expectations'.

    `severity`: critical or warning; `level`: row, or batch where records are judged together. `column` is what reasons
    and results name, `shown` the arguments as results keep them. `message` begins what a rejected record is told, which
    ends with what was found: what `found`, an SQL expression, comes to. `label`: what reasons and results call it where
    that is not its type.
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
        """What reasons and results call it."""
        return self.label or self.type

    @property
    def name(self) -> str:
        """As the sync log counts it among its warnings."""
        return name(self.rule, self.column)


def name(expectation: str, column: str) -> str:
    """What the sync log calls an expectation."""
    return f"{column} {expectation.removeprefix('expect_column_').removeprefix('values_to_')}"


def load_suite(entity_type: EntityType) -> list[dict[str, Any]]:
    """The suite's expectations as they stand in its file: type, kwargs, severity; level and where of some."""
    suite: list[dict[str, Any]] = yaml.safe_load((SUITES / f"{entity_type.table}.yaml").read_text(encoding="utf-8"))
    return suite


@cache
def suite_of(entity_type: EntityType) -> tuple[Expectation, ...]:
    """The suite of an entity type."""
    return tuple(_read(entry) for entry in load_suite(entity_type))


def _read(entry: dict[str, Any]) -> Expectation:
    kwargs = entry["kwargs"]
    column = str(kwargs.get("column") or kwargs["column_A"])
    shown = {name: value for name, value in kwargs.items() if name != "column"}
    demand = entry["type"].removeprefix("expect_column_values_").replace("_", " ")
    return Expectation(
        **{**entry, "column": column, "shown": shown, "message": f"expected {demand} {shown}, found ", "found": column}
    )
