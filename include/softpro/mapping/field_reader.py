"""Reads the fields that mappings name from a record in one go; what no mapping names is skipped, not decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import astuple

Names = tuple[str, ...]
"""A path of names alone, without an index."""

_Tree = dict[str, Any]  # to a tree, or, at a leaf, to the type it is decoded as
_Flatten = Callable[[Any, list[Any]], None]


@dataclass(frozen=True)
class Fields:
    """Where each field's value is in the list that `read` makes of a record's JSON; None where it is missing or null.

    `read` raises ValueError or RecursionError where the record is not JSON, something else than an object stands on
    the way to a field, or a field of text holds no text.
    """

    places: Mapping[Names, int]
    read: Callable[[bytes], list[Any]]


def fields(wanted: Mapping[Names, bool]) -> Fields:
    """A reader of the wanted fields, with whether only a text will do. One that lies inside another is left out."""
    tree: _Tree = {}
    for path, text in wanted.items():
        _plant(tree, path, str | None if text else Any)
    places: dict[Names, int] = {}
    struct, flatten = _compile(tree, (), places)
    decode = msgspec.json.Decoder(struct, float_hook=Decimal).decode

    def read(payload: bytes) -> list[Any]:
        values: list[Any] = []
        flatten(decode(payload), values)
        return values

    return Fields(places, read)


def _plant(tree: _Tree, path: Names, leaf: Any) -> None:
    """Adds a leaf, unless a leaf stands on the way to it, or leaves beyond it."""
    *names, last = path
    for name in names:
        branch = tree.setdefault(name, {})
        if not isinstance(branch, dict):
            return
        tree = branch
    tree.setdefault(last, leaf)


def _compile(tree: _Tree, path: Names, places: dict[Names, int]) -> tuple[type[msgspec.Struct], _Flatten]:
    """The tree as a struct, and what lays out such a struct's values: its leaves, then those of its branches."""
    leaves = {name: leaf for name, leaf in tree.items() if not isinstance(leaf, dict)}
    start = len(places)
    places.update({(*path, name): start + number for number, name in enumerate(leaves)})
    branches = {
        name: _compile(branch, (*path, name), places) for name, branch in tree.items() if isinstance(branch, dict)
    }
    width, count = len(places) - start, len(leaves)
    types = [*leaves.values(), *(struct | None for struct, _ in branches.values())]
    struct = msgspec.defstruct(
        "Fields",
        [(f"field{number}", kind, None) for number, kind in enumerate(types)],
        rename={f"field{number}": name for number, name in enumerate([*leaves, *branches])},
        gc=False,
    )
    deeper = [flatten for _, flatten in branches.values()]

    def flatten(value: Any, into: list[Any]) -> None:
        if value is None:
            into.extend([None] * width)
            return
        values = astuple(value)
        into.extend(values[:count])
        for branch, inner in zip(deeper, values[count:], strict=True):
            branch(inner, into)

    return struct, flatten
