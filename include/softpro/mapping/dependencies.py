"""Find the paths that a mapping set reads from a record."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from softpro.mapping.mapping import FROM_SOFTPRO, Mapping

PLACE = re.compile(r"\[\d+\]")
RECORD = re.compile(r"\$record(?![A-Za-z0-9_])")
# With these a rule can read fields of $record that it does not name: its parent, or an evaluated text.
UNTRACEABLE = ("%", "$eval")
NAMED = re.compile(r"\$record((?:\s*\.\s*[A-Za-z_][A-Za-z0-9_]*)+)")


@dataclass(frozen=True)
class ReadPaths:
    """The paths that are read, each with everything below it.

    Attributes:
        paths: paths that mappings read, with `[]` for any index.
        named: paths that rules name, without indexes: `buyer.name` reads the names of all buyers.
        anything: a rule uses the whole record, so the fields that it reads are unknown.
    """

    paths: frozenset[str]
    named: frozenset[str] = frozenset()
    anything: bool = False

    def __contains__(self, path: str) -> bool:
        return _within(path, self.paths) or _within(without_indexes(path), self.named)


def read_paths(mappings: Iterable[Mapping]) -> ReadPaths:
    """Return the paths that the inbound mappings read."""
    paths: set[str] = set()
    named: set[str] = set()
    anything = False
    for mapping in mappings:
        if not mapping.inbound:
            continue
        paths.add(any_index(mapping.softpro_field))
        found, reads_more = paths_named_in_rule(mapping.rules.get(FROM_SOFTPRO, ""))
        named.update(found)
        anything = anything or reads_more
    return ReadPaths(frozenset(paths), frozenset(named), anything)


def paths_named_in_rule(rule: str) -> tuple[set[str], bool]:
    """Return the dotted paths that a rule names of `$record`, and whether it may read other paths too."""
    found = [re.sub(r"\s", "", path).removeprefix(".") for path in NAMED.findall(rule)]
    times = len(RECORD.findall(rule))
    return set(found), times > len(found) or (times > 0 and any(sign in rule for sign in UNTRACEABLE))


def any_index(path: str) -> str:
    """Return the path with `[]` for each index: `buyer[0].contactId` becomes `buyer[].contactId`."""
    return PLACE.sub("[]", path)


def without_indexes(path: str) -> str:
    """Return the path as a rule names it: `buyer[].contactId` becomes `buyer.contactId`."""
    return path.replace("[]", "")


def _within(path: str, read: Iterable[str]) -> bool:
    return any(path == each or path.startswith((f"{each}.", f"{each}[")) for each in read)
