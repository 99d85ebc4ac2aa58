"""Decode only the fields that mappings name from a record's JSON, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import astuple

Names = tuple[str, ...]
"""A path of names alone, without an index."""

_Tree = dict[str, Any]  # values are subtrees, or at a leaf the type to decode
_Flatten = Callable[[Any, list[Any]], None]


@dataclass(frozen=True)
class Fields:
    """A reader of selected fields.

    Attributes:
        places: the index of each field in the list that `read` returns.
        read: decodes a record's JSON to a list of values, None for a missing field or null. Raises ValueError or
            RecursionError if the record is not JSON, a parent of a field is no object, or a text field holds no text.
    """

    places: Mapping[Names, int]
    read: Callable[[bytes], list[Any]]


def fields(wanted: Mapping[Names, bool]) -> Fields:
    """Build a reader of the wanted fields; the flag says that a field must be text. Nested paths are left out."""
    tree: _Tree = {}
    for path, text in wanted.items():
        _plant(tree, path, str | None if text else Any)
    places: dict[Names, int] = {}
    struct, flatten = _compile(tree, (), places)
    decode = msgspec.json.Decoder(struct, float_hook=Decimal).decode

    def read(payload: bytes) -> list[Any]:
        """Decode a record and return the values of the fields."""
        values: list[Any] = []
        flatten(decode(payload), values)
        return values

    return Fields(places, read)


def _plant(tree: _Tree, path: Names, leaf: Any) -> None:
    """Add a leaf to the tree, unless a leaf is already on its path or below it."""
    *names, last = path
    for name in names:
        branch = tree.setdefault(name, {})
        if not isinstance(branch, dict):
            return
        tree = branch
    tree.setdefault(last, leaf)


def _compile(tree: _Tree, path: Names, places: dict[Names, int]) -> tuple[type[msgspec.Struct], _Flatten]:
    """Compile the tree to a struct and a function that appends its values: its leaves, then its branches."""
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
