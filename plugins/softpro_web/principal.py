"""Who calls, and the way to everything that belongs to an organization: what the caller may not see does not exist.

No route reaches an integration, a case or a log in another way; `tests/unit/test_route_access.py` holds that.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from softpro.db import integrations, sync_logs
from softpro.db.database import Connection
from softpro.db.integrations import Integration, validate_organization
from softpro.db.sync_logs import SyncLog
from softpro.errors import NotFoundHere
from softpro.quality import quarantine_cases
from softpro.quality.quarantine_cases import Case


@dataclass(frozen=True)
class Principal:
    """`name`: of the user, for the records. `organizations`: what the user is confined to; None: may see all."""

    name: str
    organizations: frozenset[str] | None

    def integration(self, connection: Connection, integration_id: UUID) -> Integration:
        """The integration of this id. Raises NotFoundHere."""
        return integrations.get(connection, integration_id, self.organizations)

    def organization(self, connection: Connection, organization_id: str) -> Integration:
        """The organization's integration. Raises NotFoundHere, UsageError."""
        return integrations.find(connection, organization_id, self.organizations)

    def case(self, connection: Connection, case_id: UUID) -> Case:
        """A case of the quarantine. Raises NotFoundHere."""
        return quarantine_cases.get(connection, case_id, self.organizations)

    def log(self, connection: Connection, log_id: UUID) -> SyncLog:
        """A sync log. Raises NotFoundHere."""
        return sync_logs.get(connection, log_id, self.organizations)

    def require(self, organization_id: str) -> None:
        """Raises NotFoundHere where the organization, which need not exist yet, is none that the caller may see."""
        validate_organization(organization_id)
        if self.organizations is not None and organization_id not in self.organizations:
            raise NotFoundHere(f"No integration has the organization {organization_id!r}: connect it first")
