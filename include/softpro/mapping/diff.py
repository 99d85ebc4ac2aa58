"""Compare two mapping sets, target by target. The order of a set is ignored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass, fields
from typing import Any

from softpro.json_codec import camel_case
from softpro.mapping.document import as_json, name_in_json
from softpro.mapping.mapping import Mapping

IDENTITY = ("entity_type", "roi_systems_field")
PROPERTIES = [field.name for field in fields(Mapping) if field.name not in IDENTITY]


@dataclass(frozen=True)
class Change:
    """A property of a mapping, by its name in JSON, with its values before and after."""

    property: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Changed:
    """A mapping that both sets have, and its changes. `softpro_field` is the later one's."""

    entity_type: str
    roi_systems_field: str
    softpro_field: str
    changes: list[Change]


@dataclass(frozen=True)
class Diff:
    """The mappings that the later set adds, removes and changes."""

    added: list[Mapping]
    removed: list[Mapping]
    changed: list[Changed]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def as_json(self) -> dict[str, Any]:
        """Return the difference as HTTP and the command line show it."""
        return {
            "added": [as_json(mapping) for mapping in self.added],
            "removed": [as_json(mapping) for mapping in self.removed],
            "changed": [
                {**camel_case(changed), "changes": [camel_case(change) for change in changed.changes]}
                for changed in self.changed
            ],
        }


def diff(earlier: Sequence[Mapping], later: Sequence[Mapping]) -> Diff:
    """Compare two sets by entity type and target.

    A target can have several mappings, but only one of them can load. Equal mappings are paired first. Mappings of the
    same SoftPro field follow, then the remaining ones in their order.
    """
    left, pairs = list(earlier), {}
    for alike in (_equal, _of_one_field, _of_one_target):
        for place, mapping in enumerate(later):
            if place not in pairs and (partner := _taken(left, mapping, alike)) is not None:
                pairs[place] = partner
    compared = [(pairs[place], mapping) for place, mapping in enumerate(later) if place in pairs]
    return Diff(
        added=[mapping for place, mapping in enumerate(later) if place not in pairs],
        removed=left,
        changed=[
            Changed(after.entity_type.value, after.roi_systems_field, after.softpro_field, changes)
            for before, after in compared
            if (changes := _changes(before, after))
        ],
    )


def identical(one: Sequence[Mapping], other: Sequence[Mapping]) -> bool:
    """Return whether two sets hold the same mappings in the same order."""
    return len(one) == len(other) and all(map(_equal, one, other))


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal as in jsonb: 1 equals 1.0, and true equals neither."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Dict) and isinstance(other, Dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _taken(left: list[Mapping], mapping: Mapping, alike: Callable[[Mapping, Mapping], bool]) -> Mapping | None:
    """Remove and return the first mapping of `left` that is like this one."""
    for place, candidate in enumerate(left):
        if alike(candidate, mapping):
            return left.pop(place)
    return None


def _of_one_target(one: Mapping, other: Mapping) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in IDENTITY)


def _of_one_field(one: Mapping, other: Mapping) -> bool:
    return one.softpro_field == other.softpro_field and _of_one_target(one, other)


def _equal(one: Mapping, other: Mapping) -> bool:
    return _of_one_target(one, other) and not _changes(one, other)


def _changes(before: Mapping, after: Mapping) -> list[Change]:
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in PROPERTIES)
    return [Change(name_in_json(name), old, new) for name, old, new in pairs if not same(old, new)]
