"""Compare what two mapping sets make of a record, field by field. Pure functions, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from softpro import json_codec
from softpro.json_codec import camel_case
from softpro.mapping import paths
from softpro.mapping.columns import CUSTOM_PREFIX, Type
from softpro.mapping.compiler import Compiled, Mapped
from softpro.mapping.diff import same
from softpro.mapping.mapping import Mapping
from softpro.mapping.outbound import OutboundValues
from softpro.mapping.paths import MISSING
from softpro.mapping.step import Reason
from softpro.timestamps import format_time


@dataclass(frozen=True)
class Outcome:
    """The result of a set for a record: column values as JSON with exact numbers, and why it would not load."""

    values: Dict[str, Any]
    reasons: list[Reason]


@dataclass(frozen=True)
class RoundTrip:
    """A field after a rule in each direction: the value that SoftPro sent, and the value it would be sent.

    Attributes:
        original: the value that SoftPro sent, or MISSING.
        sent: the value that SoftPro would be sent, or MISSING.
        error: why the outbound rule fails, if it does.
    """

    original: Any
    sent: Any
    error: str | None

    @property
    def same(self) -> bool:
        """Return whether SoftPro would be sent the value that it sent."""
        if self.error is not None or MISSING in (self.original, self.sent):
            return self.error is None and self.original is self.sent
        return same(self.original, self.sent)

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as HTTP and the command line show it."""
        return {
            "original": None if self.original is MISSING else self.original,
            "sent": None if self.sent is MISSING else self.sent,
            "same": self.same,
            "error": self.error,
        }


@dataclass(frozen=True)
class Field:
    """A target before and after. `error` says why this target keeps the record from loading, if it does."""

    roi_systems_field: str
    softpro_field: str
    before: Any
    after: Any
    error: str | None
    back: RoundTrip | None = None

    @property
    def changed(self) -> bool:
        """Return whether the values before and after differ."""
        return not same(self.before, self.after)

    def as_json(self) -> dict[str, Any]:
        """Return the field as HTTP and the command line show it."""
        shown = camel_case(self, "roi_systems_field", "softpro_field", "before", "after", "changed", "error")
        return {**shown, "back": self.back and self.back.as_json()}


@dataclass(frozen=True)
class Effect:
    """The effect of the proposed set on a record.

    Attributes:
        entity_id: the record's id; None for a pasted record without one.
        fields: every target of either set.
        reasons: why the record would not load.
        failed_before: the record does not load by the set in force either.
    """

    entity_id: str | None
    fields: list[Field]
    reasons: list[Reason]
    failed_before: bool

    @property
    def would_load(self) -> bool:
        """Return whether the record would load by the proposed set."""
        return not self.reasons

    @property
    def changed(self) -> list[str]:
        """Return the targets whose values would change; none if the record would not load."""
        return [field.roi_systems_field for field in self.fields if field.changed and self.would_load]

    def as_json(self) -> dict[str, Any]:
        """Return the effect as HTTP and the command line show it."""
        fields = [field.as_json() for field in self.fields]
        return {"entityId": self.entity_id, "fields": fields, **camel_case(self, "reasons", "would_load")}


def outcome(compiled: Compiled, mapped: Mapped, more_reasons: Iterable[Reason] = ()) -> Outcome:
    """Return a mapped record as JSON values, with its own reasons and those of the checks."""
    columns = zip(compiled.columns.items(), mapped.values, strict=True)
    return Outcome(
        {column: _in_json(kind, value) for (column, kind), value in columns}, [*mapped.reasons, *more_reasons]
    )


def effect(
    entity_id: str | None,
    current: Sequence[Mapping],
    proposed: Sequence[Mapping],
    before: Outcome,
    after: Outcome,
    returns: Dict[str, RoundTrip],
) -> Effect:
    """Compare every target that either set fills: the proposed set's in its order, then those it no longer fills.

    `returns` holds the round trips of the mappings that `round_trip_mappings` selects, by target.
    """
    sources = _sources(proposed)
    sources.update((target, field) for target, field in _sources(current).items() if target not in sources)
    fields = [
        Field(
            target,
            source,
            _at(before.values, target),
            _at(after.values, target),
            _error(after.reasons, target),
            returns.get(target),
        )
        for target, source in sources.items()
    ]
    return Effect(entity_id, fields, after.reasons, failed_before=bool(before.reasons))


def round_trip_mappings(mappings: Sequence[Mapping]) -> list[Mapping]:
    """Return the mappings with a rule for each direction, whose results can be compared."""
    return [mapping for mapping in mappings if mapping.inbound and mapping.outbound and mapping.rules]


def round_trips(mappings: Sequence[Mapping], payload: bytes, sent: OutboundValues) -> dict[str, RoundTrip]:
    """Return for each of these mappings, by target, what SoftPro sent and what it would be sent."""
    try:
        record = json_codec.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return {}
    found = {}
    for mapping in mappings:
        field = mapping.softpro_field
        original = paths.look_up(record, paths.parse(field))
        value = json_codec.decode(sent.values[field]) if field in sent.values else MISSING
        found[mapping.roi_systems_field] = RoundTrip(original, value, sent.failures.get(field))
    return found


def summary(effects: Sequence[Effect]) -> dict[str, Any]:
    """Count the records, those that change, would fail and fail today, and how often each target changes."""
    return {
        "records": len(effects),
        "changedRecords": sum(bool(effect.changed) for effect in effects),
        "changedFields": dict(Counter(target for effect in effects for target in effect.changed)),
        "failing": sum(not effect.would_load for effect in effects),
        "failingBefore": sum(effect.failed_before for effect in effects),
    }


def _sources(mappings: Sequence[Mapping]) -> dict[str, str]:
    return {mapping.roi_systems_field: mapping.softpro_field for mapping in mappings if mapping.inbound}


def _at(values: Dict[str, Any], target: str) -> Any:
    if not target.startswith(CUSTOM_PREFIX):
        return values.get(target)
    custom = values.get("custom")
    return custom.get(target.removeprefix(CUSTOM_PREFIX)) if isinstance(custom, dict) else None


def _error(reasons: Sequence[Reason], target: str) -> str | None:
    return "; ".join(str(reason["message"]) for reason in reasons if reason["column"] == target) or None


def _in_json(kind: Type, value: Any) -> Any:
    if value is not None and kind is Type.JSON:
        return json_codec.decode(value)
    return format_time(value) if isinstance(value, datetime) else value
