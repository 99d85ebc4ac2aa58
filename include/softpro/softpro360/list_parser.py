"""Split a list response into the exact bytes of its records. No I/O."""

from __future__ import annotations

import re

import msgspec

from softpro.errors import ServerError
from softpro.softpro360.responses import decode

_TEXT = rb'"(?:[^"\\]|\\.)*"'
_SPACE = re.compile(rb"[ \t\r\n]*")
_SCALAR = re.compile(_TEXT + rb"|[^][{}:,\" \t\r\n]+", re.DOTALL)
_BRACKET = re.compile(_TEXT + rb"|[][{}]", re.DOTALL)


class Pagination(msgspec.Struct, rename="camel"):
    """The pagination of a list: the number of all records, and whether more pages follow."""

    total: int
    has_more: bool


class _List(msgspec.Struct):
    data: list[msgspec.Raw]
    pagination: Pagination


def split(body: bytes, what: str) -> tuple[list[bytes], Pagination]:
    """Return the records of a list, each byte for byte, and its pagination. `what` names the call.

    Raises:
        ServerError: the response is not a list.
    """
    try:
        page: _List = decode(body, _List, what)
    except ServerError:
        leniently = _split_leniently(body)
        if leniently is None:
            raise
        return leniently
    return [bytes(raw) for raw in page.data], page.pagination


def _split_leniently(body: bytes) -> tuple[list[bytes], Pagination] | None:
    """Split the list with a lenient reader that only finds where values begin and end. Return None if even that fails.

    One record with half a surrogate pair, a NaN, a bare control character or extreme nesting makes the whole response
    unreadable for a strict reader. That would stop the stream for good. The lenient reader isolates that record, and
    only it is refused later.
    """
    members: dict[bytes, bytes] = {}
    try:
        at = _past(body, 0, b"{")
        while True:
            end = _end_of_value(body, at)
            name, at = body[at:end], _past(body, end, b":")
            end = _end_of_value(body, at)
            members[name], at = body[at:end], _past(body, end)
            if body.startswith(b"}", at):
                break
            at = _past(body, at, b",")
        pagination = msgspec.json.decode(members[b'"pagination"'], type=Pagination)
        return _elements(members[b'"data"']), pagination
    except (ValueError, KeyError):  # msgspec's errors are ValueErrors
        return None


def _elements(array: bytes) -> list[bytes]:
    """Return the elements of an array."""
    elements: list[bytes] = []
    at = _past(array, 0, b"[")
    while not array.startswith(b"]", at):
        if elements:
            at = _past(array, at, b",")
        end = _end_of_value(array, at)
        elements.append(array[at:end])
        at = _past(array, end)
    return elements


def _end_of_value(body: bytes, at: int) -> int:
    """Return where the value that begins here ends. Raises ValueError if it does not end."""
    if body[at : at + 1] not in (b"[", b"{"):
        scalar = _SCALAR.match(body, at)
        if scalar is None:
            raise ValueError("a value expected")
        return scalar.end()
    depth = 0
    for bracket in _BRACKET.finditer(body, at):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(bracket[0], 0)
        if depth == 0:
            return bracket.end()
    raise ValueError("the value does not end")


def _past(body: bytes, at: int, token: bytes = b"") -> int:
    """Return the position after spaces, this token and more spaces. Raises ValueError without the token."""
    at = _end_of_space(body, at)
    if not body.startswith(token, at):
        raise ValueError(f"{token.decode()} expected")
    return _end_of_space(body, at + len(token))


def _end_of_space(body: bytes, at: int) -> int:
    space = _SPACE.match(body, at)
    return space.end() if space else at
