"""What a mapping set reads of a record."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from softpro.mapping.mapping import FROM_SOFTPRO, Mapping

PLACE = re.compile(r"\[\d+\]")
RECORD = re.compile(r"\$record(?![A-Za-z0-9_])")
# With these a rule may see more of $record than it names: its parent, or what it puts together by itself.
WANDERING = ("%", "$eval")
NAMED = re.compile(r"\$record((?:\s*\.\s*[A-Za-z_][A-Za-z0-9_]*)+)")


@dataclass(frozen=True)
class Reads:
    """The paths that are read, with all that is below them.

    `paths`: by mappings, with `[]` for any place in a list. `named`: by rules, which say `buyer.name` for the names of
    all buyers. `anything`: a rule takes the whole record, so that nobody can tell what it reads.
    """

    paths: frozenset[str]
    named: frozenset[str] = frozenset()
    anything: bool = False

    def __contains__(self, path: str) -> bool:
        return _within(path, self.paths) or _within(without_places(path), self.named)


def reads(mappings: Iterable[Mapping]) -> Reads:
    """What those of the mappings read that take part when SoftPro's records are loaded."""
    paths: set[str] = set()
    named: set[str] = set()
    anything = False
    for mapping in mappings:
        if not mapping.inbound:
            continue
        paths.add(any_place(mapping.softpro_field))
        found, whatever = named_in(mapping.rules.get(FROM_SOFTPRO, ""))
        named.update(found)
        anything = anything or whatever
    return Reads(frozenset(paths), frozenset(named), anything)


def named_in(rule: str) -> tuple[set[str], bool]:
    """The dotted paths that a rule names of `$record`, and whether it may read whatever else it likes of it."""
    found = [re.sub(r"\s", "", path).removeprefix(".") for path in NAMED.findall(rule)]
    times = len(RECORD.findall(rule))
    return set(found), times > len(found) or (times > 0 and any(sign in rule for sign in WANDERING))


def any_place(path: str) -> str:
    """The path with `[]` for each place in a list: `buyer[0].contactId` is `buyer[].contactId`."""
    return PLACE.sub("[]", path)


def without_places(path: str) -> str:
    """The path as a rule names it: `buyer[].contactId` is `buyer.contactId`."""
    return path.replace("[]", "")


def _within(path: str, read: Iterable[str]) -> bool:
    return any(path == each or path.startswith((f"{each}.", f"{each}[")) for each in read)
