"""What the rules of a set ask a record for: each rule's field, and of `$record` no more than it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from softpro.mapping import paths
from softpro.mapping.dependencies import named_in
from softpro.mapping.paths import MISSING, Path
from softpro.mapping.rules.messages import Evaluation, Rule

ALL_OF_IT: Path = ()

_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True)
class Asking:
    """`reads`: the paths that are read of each record, for `rules` to find by their places."""

    rules: tuple[Rule, ...]
    reads: tuple[Path, ...]

    def of(self, record: Any, payload: bytes) -> Evaluation:
        """A record's reads; given decoded and as JSON."""
        return Evaluation([_read(record, payload, path) for path in self.reads])


def asking(rules: Sequence[tuple[str, Path]]) -> Asking:
    """What these rules, JSONata and the path of its field, ask for."""
    places: dict[Path, int] = {}

    def place(path: Path) -> int:
        return places.setdefault(path, len(places))

    made = []
    for text, path in rules:
        paths_named, whatever = named_in(text)
        whole = place(ALL_OF_IT) if whatever else None
        names = set() if whatever else {path.partition(".")[0] for path in paths_named}
        named = {name: place((name,)) for name in sorted(names)}
        made.append(Rule(text, place(path), whole, named))
    return Asking(tuple(made), tuple(places))


def _read(record: Any, payload: bytes, path: Path) -> str | None:
    if path == ALL_OF_IT:
        return payload.decode()
    found = paths.look_up(record, path)
    return None if found is MISSING else _encode(found).decode()
