"""Show who changed what."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from softpro.db import audit_log
from softpro_web.deps import Configurer, DatabaseDep
from softpro_web.models.audit import AuditEntryOut
from softpro_web.models.base import ListResponse, Meta
from softpro_web.models.quarantine import WITHOUT_NUL
from softpro_web.pagination import DEFAULT_LIMIT, Limit, Offset
from softpro_web.routing import APIRouter

router = APIRouter()


@router.get("/audit")
def list_audit(
    user: Configurer,
    database: DatabaseDep,
    organization_id: Annotated[str | None, Query(alias="organizationId", max_length=128, pattern=WITHOUT_NUL)] = None,
    user_name: Annotated[str | None, Query(alias="userName", max_length=256, pattern=WITHOUT_NUL)] = None,
    action: Annotated[str | None, Query(max_length=64, pattern=WITHOUT_NUL, description="settings.update, …")] = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> ListResponse[AuditEntryOut]:
    """List who changed what, newest first.

    A confined user sees only changes of the organizations that the user may see.
    """
    with database.connect() as connection:
        found, total = audit_log.page(
            connection,
            user.organizations,
            organization=organization_id,
            user=user_name,
            action=action,
            limit=limit,
            offset=offset,
        )
    entries = [AuditEntryOut.model_validate(entry.as_json()) for entry in found]
    return ListResponse(data=entries, meta=Meta(total=total, limit=limit, offset=offset))
