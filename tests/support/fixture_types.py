"""Define the types of the fixtures that are functions."""

from __future__ import annotations

from typing import Protocol

from softpro.db.integrations import Integration

from .sandbox import Sandbox


class Connected(Protocol):
    """The fixture `connected`."""

    def __call__(self, organization: str, at: str | None = None) -> Integration: ...


class StartSandbox(Protocol):
    """The fixture `start_sandbox`."""

    def __call__(
        self, *, organizations: int = 1, transactions: int = 45, contacts: int = 12, **switches: object
    ) -> Sandbox: ...
