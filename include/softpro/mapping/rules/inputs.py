"""Determine the inputs of a set's rules: each rule's field, and only the fields of `$record` that it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softpro import json_codec
from softpro.mapping import paths
from softpro.mapping.dependencies import paths_named_in_rule
from softpro.mapping.paths import MISSING, Path
from softpro.mapping.rules.messages import Evaluation, Rule

WHOLE_RECORD: Path = ()


@dataclass(frozen=True)
class RuleInputs:
    """The `rules`, and the paths that they read of each record. Rules refer to these paths by index."""

    rules: tuple[Rule, ...]
    reads: tuple[Path, ...]

    def evaluation(self, record: Any, payload: bytes) -> Evaluation:
        """Return the reads of a record, which is given both decoded and as JSON."""
        return Evaluation([_read(record, payload, path) for path in self.reads])


def rule_inputs(rules: Sequence[tuple[str, Path]]) -> RuleInputs:
    """Determine the inputs of rules, each given as JSONata and the path of its field."""
    places: dict[Path, int] = {}

    def place(path: Path) -> int:
        return places.setdefault(path, len(places))

    compiled = []
    for text, path in rules:
        paths_named, reads_more = paths_named_in_rule(text)
        whole = place(WHOLE_RECORD) if reads_more else None
        names = set() if reads_more else {path.partition(".")[0] for path in paths_named}
        named = {name: place((name,)) for name in sorted(names)}
        compiled.append(Rule(text, place(path), whole, named))
    return RuleInputs(tuple(compiled), tuple(places))


def _read(record: Any, payload: bytes, path: Path) -> str | None:
    if path == WHOLE_RECORD:
        return payload.decode()
    found = paths.look_up(record, path)
    return None if found is MISSING else json_codec.encode(found).decode()
