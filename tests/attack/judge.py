"""Judge a response: its status, its text, and what the request changed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from .attempts import Attempt, Verdict
from .http_client import Request, Response
from .target import Target

CLOSED = 0
REFUSED = frozenset({400, 401, 403, 404, 405})
UNKNOWN = frozenset({401, 403})
"""The statuses for a caller without a login."""

Look = Callable[[Request, Response], str]


def attack(
    target: Target,
    kind: str,
    name: str,
    request: Request,
    allowed: Collection[int] = REFUSED,
    look: Look | None = None,
    *,
    may_change_own: bool = False,
    sees_all: bool = False,
) -> Attempt:
    """Return an attempt that must end in an allowed status, show nothing of another organization, and change nothing.

    Args:
        target: the running product.
        kind: the kind of attack, for the counts.
        name: what the attempt is, for the report.
        request: what is sent.
        allowed: the statuses that are a refusal, or show only what the caller may see.
        look: returns a further problem of the response, or an empty text.
        may_change_own: the request may change the caller's own organization.
        sees_all: the caller may see every organization.
    """
    act = partial(_attack, target, request, frozenset(allowed), look, may_change_own=may_change_own, sees_all=sees_all)
    return Attempt(kind, name, act)


def control(target: Target, kind: str, name: str, request: Request) -> Attempt:
    """Return an attempt that must be carried out, with 2xx."""
    return Attempt(kind, name, partial(_control, target, request), control=True)


def _attack(
    target: Target,
    request: Request,
    allowed: frozenset[int],
    look: Look | None,
    *,
    may_change_own: bool,
    sees_all: bool,
) -> Verdict:
    response = target.send(request)
    changes, problems = target.changed(), []
    if response.status not in allowed:
        problems.append(f"status {shown(response)}")
    if not sees_all and (mark := target.foreign_text(request, response)):
        problems.append(f"shows {mark!r}")
    if changes.others or (changes.own and not may_change_own):
        problems.append(f"changed {changes}")
    if look is not None and (found := look(request, response)):
        problems.append(found)
    return Verdict(answer(response), "; ".join(problems))


def _control(target: Target, request: Request) -> Verdict:
    response = target.send(request)
    target.changed()
    succeeded = 200 <= response.status < 300
    return Verdict(answer(response), "" if succeeded else f"status {shown(response)}")


def answer(response: Response) -> str:
    return str(response.status or "closed")


def shown(response: Response) -> str:
    """Return the start of a response for the report."""
    return f"{answer(response)} {response.text[:200]}"
