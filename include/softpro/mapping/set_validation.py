"""Validate a mapping set as a whole, and report every problem."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Dict
from dataclasses import asdict
from typing import Any

from softpro.entities import EntityType
from softpro.errors import MappingError
from softpro.mapping import paths, value_rules
from softpro.mapping.columns import COLUMNS, CUSTOM, CUSTOM_PREFIX, Type
from softpro.mapping.convert import CONVERTERS, NUL
from softpro.mapping.mapping import DIRECTIONS, FROM_SOFTPRO, TO_SOFTPRO, Mapping
from softpro.mapping.paths import Path
from softpro.mapping.rules.evaluator import problems as rule_problems
from softpro.mapping.upsert import whole_set

RULE = 'a JSONata text, or {"fromSoftPro": …, "toSoftPro": …}, or null'
NEEDED = {
    "SOFTPRO_TO_ROI": (FROM_SOFTPRO,),
    "ROI_TO_SOFTPRO": (TO_SOFTPRO,),
    "BIDIRECTIONAL": (FROM_SOFTPRO, TO_SOFTPRO),
}

ONE_WAY = (
    "transformationRule has one way only, and direction BIDIRECTIONAL needs both: "
    'give {"fromSoftPro": …, "toSoftPro": …}, or another direction'
)

READ_ONLY = {
    EntityType.TRANSACTION: ("orderId", "createdAt", "updatedAt"),
    EntityType.CONTACT: ("contactId", "createdAt", "updatedAt"),
}
"""Fields that only SoftPro writes."""


def target_type(mapping: Mapping) -> Type:
    """Return the type of the mapping's target.

    Raises:
        ValueError: the target does not exist or can't be mapped.
    """
    columns, target = COLUMNS[mapping.entity_type], mapping.roi_systems_field
    if target.startswith(CUSTOM_PREFIX) and target != CUSTOM_PREFIX:
        return Type.JSON
    if target not in columns:
        raise ValueError(
            f"roiSystemsField {target!r} is not a column of roi.{mapping.entity_type.table} that can be mapped; "
            f"choose one of {', '.join(sorted(columns))}, or custom.<name>"
        )
    return columns[target]


def validate(mappings: Sequence[Mapping], names: Sequence[str] | None = None) -> None:
    """Validate the set.

    Args:
        mappings: the set.
        names: the name of each mapping in messages. Default: its number, counted from 1.

    Raises:
        MappingError: with every problem and the name of its mapping.
    """
    problems: list[str] = []
    taken: dict[tuple[str, str], str] = {}
    names = names or whole_set(mappings).names
    uncompilable = _uncompilable(mappings)
    for name, mapping in zip(names, mappings, strict=True):
        problems.extend(f"{name}: {problem}" for problem in _problems(mapping, uncompilable))
        if mapping.inbound:
            target = (mapping.entity_type.value, mapping.roi_systems_field)
            if target in taken:
                problems.append(f"{name}: roiSystemsField {mapping.roi_systems_field!r} is taken by {taken[target]}")
            taken.setdefault(target, name)
    problems.extend(_outbound_conflicts(mappings, names))
    if problems:
        raise MappingError(problems)


def _outbound_conflicts(mappings: Sequence[Mapping], names: Sequence[str]) -> Iterator[str]:
    """Yield a problem for each two mappings that would send the same field, or one inside the other."""
    earlier: dict[EntityType, dict[Path, int]] = {}
    for number, mapping in enumerate(mappings):
        if not mapping.outbound:
            continue
        try:
            path = paths.parse(mapping.softpro_field)
        except ValueError:
            continue  # reported by `_problems`
        others = earlier.setdefault(mapping.entity_type, {})
        for other, first in others.items():
            shorter = min(len(path), len(other))
            if path[:shorter] != other[:shorter]:
                continue
            inner, whole = (number, first) if len(path) > len(other) else (first, number)
            if not _leaves_out(mappings[whole], mappings[inner]):
                yield (
                    f"{names[number]}: softproField {mapping.softpro_field!r} is already sent by {names[first]} "
                    f"({mappings[first].softpro_field!r}): give one of them direction SOFTPRO_TO_ROI"
                )
                break
        others.setdefault(path, number)


def _leaves_out(whole: Mapping, inner: Mapping) -> bool:
    """Return whether the mapping that sends the whole `custom` leaves out the name that the other one sends."""
    name = inner.roi_systems_field.removeprefix(CUSTOM_PREFIX)
    return (
        whole.roi_systems_field == CUSTOM
        and TO_SOFTPRO not in whole.rules
        and inner.roi_systems_field == CUSTOM_PREFIX + name
        and paths.parse(inner.softpro_field) == (*paths.parse(whole.softpro_field), name)
    )


def warnings(mappings: Sequence[Mapping], names: Sequence[str] | None = None) -> list[str]:
    """Return warnings for mappings that are valid but can't be sent: a single item of a list."""
    names = names or whole_set(mappings).names
    return [
        f"{name}: softproField {mapping.softpro_field!r} is an item of a list, and a list can only be "
        f"sent as a whole: changes of {mapping.roi_systems_field} are not sent. Set its direction to SOFTPRO_TO_ROI"
        for name, mapping in zip(names, mappings, strict=True)
        if mapping.outbound and any(isinstance(step, int) for step in paths.parse(mapping.softpro_field))
    ]


def _uncompilable(mappings: Sequence[Mapping]) -> dict[str, str]:
    """Return the JSONata texts of the mappings that do not compile, with the errors."""
    texts = list({text: None for mapping in mappings if _rules_are_texts(mapping) for text in mapping.rules.values()})
    if not texts:
        return {}
    return {text: problem for text, problem in zip(texts, rule_problems(texts), strict=True) if problem is not None}


def _rules_are_texts(mapping: Mapping) -> bool:
    rule = mapping.transformation_rule
    texts = rule.values() if isinstance(rule, dict) else [] if rule is None else [rule]
    return all(isinstance(text, str) and "\x00" not in text for text in texts)


def _problems(mapping: Mapping, uncompilable: Dict[str, str]) -> list[str]:
    try:
        stored = json.dumps(asdict(mapping), allow_nan=False, ensure_ascii=False).encode()
    except ValueError as unstorable:  # NaN, half a surrogate pair
        return [f"it can't be stored: {unstorable}"]
    if NUL.search(stored.decode()):
        return ["a NUL character can't be stored"]
    found = []
    try:
        path = paths.parse(mapping.softpro_field)
    except ValueError as wrong:
        found.append(f"softproField {wrong}")
    else:
        if mapping.outbound and path[0] in READ_ONLY[mapping.entity_type]:
            found.append(
                f"softproField {mapping.softpro_field!r} is written only by SoftPro: set direction SOFTPRO_TO_ROI"
            )
    try:
        convert = CONVERTERS[target_type(mapping)]
    except ValueError as wrong:
        found.append(str(wrong))
    else:
        found.extend(_default_problems(mapping, convert))
        if mapping.validation_rules is not None:
            found.extend(value_rules.problems(mapping.validation_rules, target_type(mapping)))
    if mapping.direction not in DIRECTIONS:
        found.append(f"direction {mapping.direction!r} is none of {', '.join(DIRECTIONS)}")
    found.extend(_rule_problems(mapping, uncompilable))
    return found


def _rule_problems(mapping: Mapping, uncompilable: Dict[str, str]) -> Iterator[str]:
    rule = mapping.transformation_rule
    if rule is None:
        return
    if not isinstance(rule, (str, dict)) or not _rules_are_texts(mapping):
        yield f"transformationRule should be {RULE}"
        return
    if isinstance(rule, str):
        if mapping.direction == "BIDIRECTIONAL":
            yield ONE_WAY
    elif unknown := set(rule) - {FROM_SOFTPRO, TO_SOFTPRO}:
        yield f"transformationRule should be {RULE}; it has {', '.join(sorted(map(repr, unknown)))}"
        return
    else:
        for way in NEEDED.get(mapping.direction, ()):
            if way not in rule:
                yield f"transformationRule lacks {way}, which direction {mapping.direction} needs"
    for way, text in mapping.rules.items():
        if text in uncompilable:
            name = "transformationRule" if isinstance(rule, str) else f"transformationRule.{way}"
            yield f"{name} does not compile: {uncompilable[text]}"


def _default_problems(mapping: Mapping, convert: Callable[[Any], Any]) -> list[str]:
    try:
        if mapping.default_value is not None:
            convert(mapping.default_value)
    except ValueError as wrong:
        return [f"defaultValue: {wrong}"]
    return []
