"""Give routes access to the data of organizations, limited to those that the caller may see.

Resources of other organizations raise NotFoundHere, as if they did not exist. Routes read integrations, cases and logs
only through `Principal`; `tests/unit/test_route_access.py` checks this.
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
    """The caller.

    Attributes:
        name: The user's name, for audit columns.
        organizations: The organizations to which the user is confined; None for a user who may see all.
    """

    name: str
    organizations: frozenset[str] | None

    def integration(self, connection: Connection, integration_id: UUID) -> Integration:
        """Return the integration with this id. Raises NotFoundHere."""
        return integrations.get(connection, integration_id, self.organizations)

    def organization(self, connection: Connection, organization_id: str) -> Integration:
        """Return the organization's integration. Raises NotFoundHere, or UsageError for an invalid id."""
        return integrations.find(connection, organization_id, self.organizations)

    def case(self, connection: Connection, case_id: UUID) -> Case:
        """Return the quarantine case with this id. Raises NotFoundHere."""
        return quarantine_cases.get(connection, case_id, self.organizations)

    def log(self, connection: Connection, log_id: UUID) -> SyncLog:
        """Return the sync log with this id. Raises NotFoundHere."""
        return sync_logs.get(connection, log_id, self.organizations)

    def require(self, organization_id: str) -> None:
        """Check that the caller may see an organization, which need not be connected yet.

        Raises:
            NotFoundHere: The caller may not see it.
            UsageError: The id is invalid.
        """
        validate_organization(organization_id)
        if self.organizations is not None and organization_id not in self.organizations:
            raise NotFoundHere(f"No integration has the organization {organization_id!r}: connect it first")
