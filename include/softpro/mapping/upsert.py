"""Update a mapping set by some mappings: those of a stored target replace it, and the others are added."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from softpro.errors import MappingError
from softpro.mapping.diff import identical
from softpro.mapping.mapping import Mapping


@dataclass(frozen=True)
class Upsert:
    """A set after an update, and the name of each of its mappings in messages.

    A name is the number of the mapping in the request, counted from 1, or says that the mapping was stored before.
    """

    mappings: list[Mapping]
    names: list[str]


def upsert(stored: Sequence[Mapping], sent: Sequence[Mapping]) -> Upsert:
    """Replace the stored mappings of the sent targets, each at its place, and append the other sent mappings.

    A target can have several mappings. Equal ones are paired first, then those of the same SoftPro field and direction.
    A remaining sent mapping replaces the only remaining stored one of its target.

    Raises:
        MappingError: several stored mappings remain for a sent one; the message lists them.
    """
    mappings, names = list(stored), [f"the stored mapping to {mapping.roi_systems_field!r}" for mapping in stored]
    left, free = dict(enumerate(sent, start=1)), defaultdict[tuple[str, str], list[int]](list)
    for place, mapping in enumerate(stored):
        free[_target(mapping)].append(place)

    def places(mapping: Mapping, alike: Callable[[Mapping, Mapping], bool] = lambda one, other: True) -> list[int]:
        return [place for place in free[_target(mapping)] if alike(stored[place], mapping)]

    def put(place: int, number: int) -> None:
        free[_target(stored[place])].remove(place)
        mappings[place], names[place] = left.pop(number), _numbered(number)

    for number, mapping in list(left.items()):
        if equal := places(mapping, _equal):
            put(equal[0], number)
    for number, mapping in list(left.items()):
        if len(alike := places(mapping, _of_one_field_and_direction)) == 1:
            put(alike[0], number)
    for number, mapping in list(left.items()):
        if len(remaining := places(mapping)) == 1:
            put(remaining[0], number)
    problems = [
        _ambiguous(number, mapping, [stored[place] for place in found])
        for number, mapping in left.items()
        if (found := places(mapping))
    ]
    if problems:
        raise MappingError(problems)
    return Upsert([*mappings, *left.values()], [*names, *map(_numbered, left)])


def whole_set(sent: Sequence[Mapping]) -> Upsert:
    """Return the sent mappings as the whole set."""
    return Upsert(list(sent), [_numbered(number) for number in range(1, len(sent) + 1)])


def _numbered(number: int) -> str:
    return f"mapping {number}"


def _ambiguous(number: int, mapping: Mapping, found: Sequence[Mapping]) -> str:
    stored = ", ".join(f"{each.softpro_field} {each.direction}" for each in found)
    return (
        f"{_numbered(number)}: roiSystemsField {mapping.roi_systems_field!r} has several stored mappings: {stored}. "
        'Send the softproField and direction of one of them, or the whole set with "replace": true'
    )


def _equal(one: Mapping, other: Mapping) -> bool:
    return identical([one], [other])


def _of_one_field_and_direction(one: Mapping, other: Mapping) -> bool:
    return (one.softpro_field, one.direction) == (other.softpro_field, other.direction)


def _target(mapping: Mapping) -> tuple[str, str]:
    return mapping.entity_type.value, mapping.roi_systems_field
