"""Format mapping sets, their differences and previews as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from softpro import json_codec
from softpro.analysis.preview import Preview
from softpro.entities import EntityType
from softpro.mapping.diff import Diff
from softpro.mapping.mapping import Mapping
from softpro.mapping.preview_diff import Effect, RoundTrip, summary
from softpro.mapping.repository import Version
from softpro.timestamps import format_milliseconds

ARROWS = {"SOFTPRO_TO_ROI": "->", "ROI_TO_SOFTPRO": "<-", "BIDIRECTIONAL": "<->"}
MAX_VALUE_CHARACTERS = 60


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows as indented lines, each column as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def version(head: Version) -> list[str]:
    """Return the cells of one version: number, time, size and author."""
    restores = f", a copy of version {head.restores}" if head.restores else ""
    return [
        f"version {head.version}",
        format_milliseconds(head.created_at),
        f"{head.size} mappings{restores}",
        head.author,
    ]


def mapping(entry: Mapping) -> list[str]:
    """Return the cells of one mapping: SoftPro's field, direction, target, and properties that differ from defaults."""
    notes = [
        "" if entry.enabled else "disabled",
        "required" if entry.required else "",
        f"default {value(entry.default_value)}" if entry.default_value is not None else "",
        f"rule {value(entry.transformation_rule)}" if entry.transformation_rule is not None else "",
        f"validation {value(entry.validation_rules)}" if entry.validation_rules is not None else "",
    ]
    return [entry.softpro_field, ARROWS[entry.direction], entry.roi_systems_field, ", ".join(filter(None, notes))]


def difference(found: Diff) -> Iterator[str]:
    """Yield a line per added, removed or changed mapping, with both values of each change."""
    rows = [["added", *mapping(entry)] for entry in found.added]
    rows += [["removed", *mapping(entry)] for entry in found.removed]
    rows += [
        ["changed", changed.roi_systems_field, change.property, value(change.before), f"=> {value(change.after)}"]
        for changed in found.changed
        for change in changed.changes
    ]
    return table(rows)


def preview(entity_type: EntityType, shown: Preview) -> Iterator[str]:
    """Yield the totals, then each record that changes or would not load, with its fields before and after."""
    sums = summary(shown.effects)
    yield (
        f"{entity_type.table}: {sums['records']} records, {sums['changedRecords']} would change, "
        f"{sums['failing']} would not load ({sums['failingBefore']} with the set in force)"
    )
    if sums["changedFields"]:
        yield "  " + ", ".join(f"{target} {count}" for target, count in sums["changedFields"].items())
    yield from (f"  {warning}" for warning in shown.warnings)
    yield from (f"  no fetched record has the id {entity_id}" for entity_id in shown.unknown)
    for effect in shown.effects:
        if effect.changed or effect.reasons or effect.failed_before:
            yield from ("", *_record(effect))


def value(content: Any) -> str:
    """Return a value as JSON, cut to `MAX_VALUE_CHARACTERS`."""
    text = json_codec.encode(content).decode()
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[:MAX_VALUE_CHARACTERS] + "…"


def _round_trip_problem(back: RoundTrip | None) -> str:
    """Describe how a value would return to SoftPro changed; empty if it would return unchanged."""
    if back is None or back.same:
        return ""
    shown = back.as_json()
    problem = back.error or f"would be sent back as {value(shown['sent'])}"
    return f"SoftPro's {value(shown['original'])}: {problem}"


def _record(effect: Effect) -> Iterator[str]:
    name = "a record without an id" if effect.entity_id is None else effect.entity_id
    if not effect.would_load:
        yield f"{name} would not load"
    else:
        yield f"{name} would load, and does not load now" if effect.failed_before else name
    yield from table(
        [
            [
                field.roi_systems_field,
                value(field.before),
                f"=> {value(field.after)}",
                field.error or _round_trip_problem(field.back),
            ]
            for field in effect.fields
            if field.changed or field.error or _round_trip_problem(field.back)
        ]
    )
    named = {field.roi_systems_field for field in effect.fields}
    yield from (f"  {reason['message']}" for reason in effect.reasons if reason["column"] not in named)
