"""Describe the bodies about the audit log."""

from __future__ import annotations

from typing import Any

from softpro_web.models.base import Model


class AuditEntryOut(Model):
    """A change that a user made. `before` and `after` hold the changed values, without secrets."""

    id: int
    at: str
    user_name: str
    source: str
    address: str | None
    login: str
    action: str
    organization_id: str | None
    subject: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
