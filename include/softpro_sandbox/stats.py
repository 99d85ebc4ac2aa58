"""Count requests and responses, for tests that assert on them."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import msgspec
from pydantic.alias_generators import to_camel

_NAMED = frozenset(
    {
        *("user", "profile", "transactions", "contacts", "status", "statuses", "deletions"),
        *("parties", "property", "documents", "download"),
    }
)


MAX_CALLS = 100_000


class RecordedCall(msgspec.Struct, rename="camel"):
    """A call of the API, as it was counted.

    Attributes:
        at: the arrival, in seconds of the machine's clock.
        organization_id: None for a token that no grant issued or that no longer works.
        call: method and path, with ids left out.
        status: None until the response starts; it stays None when the connection was reset.
    """

    at: float
    organization_id: str | None
    call: str
    status: int | None = None


@dataclass
class Stats:
    """Counts since the start. `requests` counts the calls of grants, by method and path with ids left out."""

    requests: Counter[str] = field(default_factory=Counter)
    by_organization: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    refreshes: int = 0
    rate_limited: int = 0
    unauthenticated: int = 0
    dead_refresh_tokens: int = 0
    reused_codes: int = 0
    lost_token_answers: int = 0
    webhooks: Counter[str] = field(default_factory=Counter)
    calls: deque[RecordedCall] = field(default_factory=lambda: deque(maxlen=MAX_CALLS))

    def to_json(self) -> dict[str, Any]:
        """Return the counts by their JSON names."""
        return {to_camel(name): value for name, value in vars(self).items() if name != "calls"}


def call_name(method: str, path: str) -> str:
    """Return `GET /transactions/{id}` for a path below the API's base; every step that is not a known name is an id."""
    steps = [step if step in _NAMED else "{id}" for step in path.split("/") if step]
    return f"{method} /{'/'.join(steps)}"
