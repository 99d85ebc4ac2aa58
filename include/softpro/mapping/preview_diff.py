"""What another mapping set would make of a record, field by field. Nothing here reads or writes anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from softpro.mapping import paths
from softpro.mapping.columns import CUSTOM_PREFIX, Type
from softpro.mapping.compiler import Compiled, Mapped
from softpro.mapping.diff import same
from softpro.mapping.mapping import Mapping
from softpro.mapping.outbound import Sent
from softpro.mapping.paths import MISSING
from softpro.mapping.step import Reason
from softpro.timestamps import format_time

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True)
class Outcome:
    """What a set makes of a record: its columns' values as JSON, numbers exact, and why it would not load."""

    values: Dict[str, Any]
    reasons: list[Reason]


@dataclass(frozen=True)
class Return:
    """What SoftPro would be sent of a target, by a rule that goes both ways, beside what it sent itself; MISSING where
    that is nothing. `error`: why the rule fails."""

    original: Any
    sent: Any
    error: str | None

    @property
    def same(self) -> bool:
        if self.error is not None or MISSING in (self.original, self.sent):
            return self.error is None and self.original is self.sent
        return same(self.original, self.sent)

    def as_json(self) -> dict[str, Any]:
        return {
            "original": None if self.original is MISSING else self.original,
            "sent": None if self.sent is MISSING else self.sent,
            "same": self.same,
            "error": self.error,
        }


@dataclass(frozen=True)
class Field:
    """A target before and after; `error`: why the record would not load, as far as this target is to blame."""

    roi_systems_field: str
    softpro_field: str
    before: Any
    after: Any
    error: str | None
    back: Return | None = None

    @property
    def changed(self) -> bool:
        return not same(self.before, self.after)

    def as_json(self) -> dict[str, Any]:
        return {
            "roiSystemsField": self.roi_systems_field,
            "softproField": self.softpro_field,
            "before": self.before,
            "after": self.after,
            "changed": self.changed,
            "error": self.error,
            "back": self.back and self.back.as_json(),
        }


@dataclass(frozen=True)
class Effect:
    """What becomes of a record; it has no id where a pasted one has none. `failed_before`: by the set in force."""

    entity_id: str | None
    fields: list[Field]
    reasons: list[Reason]
    failed_before: bool

    @property
    def would_load(self) -> bool:
        return not self.reasons

    @property
    def changed(self) -> list[str]:
        """The targets that would hold something else than before; of a record that would not load, none."""
        return [field.roi_systems_field for field in self.fields if field.changed and self.would_load]

    def as_json(self) -> dict[str, Any]:
        return {
            "entityId": self.entity_id,
            "fields": [field.as_json() for field in self.fields],
            "reasons": self.reasons,
            "wouldLoad": self.would_load,
        }


def outcome(compiled: Compiled, mapped: Mapped, more_reasons: Iterable[Reason] = ()) -> Outcome:
    """A mapped record as JSON, with what the checks have against it."""
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
    returns: Dict[str, Return],
) -> Effect:
    """Every target that either set fills: those of the proposed one in its order, then those it no longer fills.

    `returns`: by target, of those that `returning` names.
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


def returning(mappings: Sequence[Mapping]) -> list[Mapping]:
    """The mappings whose rules go both ways, so that one can be held against the other."""
    return [mapping for mapping in mappings if mapping.inbound and mapping.outbound and mapping.rules]


def returned(mappings: Sequence[Mapping], payload: bytes, sent: Sent) -> dict[str, Return]:
    """Of these mappings, by target, what SoftPro sent of a record and what it would be sent."""
    try:
        record = _decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return {}
    found = {}
    for mapping in mappings:
        field = mapping.softpro_field
        original = paths.look_up(record, paths.parse(field))
        value = _decode(sent.values[field]) if field in sent.values else MISSING
        found[mapping.roi_systems_field] = Return(original, value, sent.failures.get(field))
    return found


def summary(effects: Sequence[Effect]) -> dict[str, Any]:
    """How many records there are, change, would fail, and fail by the set in force; how often each target changes."""
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
        return _decode(value)
    return format_time(value) if isinstance(value, datetime) else value
