"""List, show, correct, replay and discard quarantine cases."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import Query, Response

from softpro.db.database import Database
from softpro.entities import EntityType, Mode
from softpro.errors import LeaseHeld, UsageError
from softpro.quality import quarantine_cases
from softpro.quality.quarantine_cases import Case, CaseFilter, Resolution
from softpro.sync import replay as replaying
from softpro.sync.corrections import correct as correct
from softpro_web.dag_runs import Launcher
from softpro_web.deps import REMAP_DAG, DatabaseDep, Operator, Starter
from softpro_web.models.base import DataResponse, ListResponse, Meta
from softpro_web.models.quarantine import (
    WITHOUT_NUL,
    CaseDetail,
    CaseOut,
    DiscardBody,
    EditBody,
    ReplayBody,
    ReplayResult,
    ReplayStarted,
)
from softpro_web.models.sync import SyncResult
from softpro_web.pagination import DEFAULT_LIMIT, Limit, Offset
from softpro_web.principal import Principal
from softpro_web.routing import KIB, APIRouter, limits
from softpro_web.threads import in_thread

RECORD_BODY_BYTES = 2 * KIB * KIB
"""The largest record that a correction may send."""

router = APIRouter(prefix="/quarantine")
Text = Annotated[str | None, Query(max_length=200, pattern=WITHOUT_NUL)]


class _Edit(msgspec.Struct):
    """The body of a correction. The record stays raw bytes, because a Python float would lose digits."""

    record: msgspec.Raw


@router.get("")
def list_quarantine_cases(
    user: Operator,
    database: DatabaseDep,
    integration_id: Annotated[UUID, Query(alias="integrationId")],
    entity_type: Annotated[EntityType | None, Query(alias="entityType")] = None,
    column: Text = None,
    rule: Text = None,
    resolution: Resolution = Resolution.OPEN,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> ListResponse[CaseOut]:
    """List an integration's quarantine cases, latest failure first. Default: open cases.

    Requires *operate*, because reasons quote values from personal records.
    """
    with database.connect() as connection:
        user.integration(connection, integration_id)
        found, total = quarantine_cases.page(
            connection, integration_id, CaseFilter(entity_type, column, rule, resolution), limit, offset
        )
    return ListResponse(data=[_case_out(case) for case in found], meta=Meta(total=total, limit=limit, offset=offset))


@router.get("/{case_id}", responses={200: {"model": DataResponse[CaseDetail]}})
def get_quarantine_case(case_id: UUID, user: Operator, database: DatabaseDep) -> Response:
    """Return a quarantine case with all details.

    Requires *operate*, because the payload can hold personal data. The payload keeps every digit and escape.
    """
    with database.connect() as connection:
        case = user.case(connection, case_id)
        both = quarantine_cases.payloads(connection, case)
    answer = b'{"success": true, "data": ' + quarantine_cases.as_json_bytes(case, both) + b"}"
    return Response(answer, media_type="application/json")


@router.put("/{case_id}", responses={202: {"model": DataResponse[ReplayStarted]}})
@limits(body=RECORD_BODY_BYTES)
async def correct_quarantine_case(
    case_id: UUID,
    body: EditBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[ReplayResult] | DataResponse[ReplayStarted]:
    """Correct the record of a case, and load it.

    If another run works on the stream, the response is 409. The correction is stored, and the next run loads it.
    """
    record = await in_thread(_record, await launcher.request.body())
    case = await in_thread(_correct, launcher.database, case_id, record, user)
    replay = ReplayBody(integration_id=case.integration_id, entity_type=EntityType(case.entity_type), ids=[case.id])
    try:
        return await _replay(user, replay, launcher)
    except LeaseHeld as held:
        raise LeaseHeld(f"The correction is stored, and the next run loads it. {held}", held.log_id) from held


@router.post("/replay", responses={202: {"model": DataResponse[ReplayStarted]}})
async def replay_quarantine(
    body: ReplayBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[ReplayResult] | DataResponse[ReplayStarted]:
    """Map, check and load the records of open cases again.

    Returns 200 with the result if the run ends within `wait`, else 202.
    """
    return await _replay(user, body, launcher)


@router.post("/{case_id}/discard")
def discard_quarantine_case(
    case_id: UUID, body: DiscardBody, user: Operator, database: DatabaseDep
) -> DataResponse[CaseOut]:
    """Close a case without loading its record.

    The case stays closed until SoftPro sends another version of the record.
    """
    with database.connect() as connection:
        case = user.case(connection, case_id)
        return DataResponse(data=_case_out(quarantine_cases.discard(connection, case.id, body.reason, user.name)))


async def _replay(
    user: Principal, body: ReplayBody, launcher: Launcher
) -> DataResponse[ReplayResult] | DataResponse[ReplayStarted]:
    response = await launcher.run(
        user,
        body.integration_id,
        body.entity_type,
        dag_id=REMAP_DAG,
        mode=Mode.REPLAY,
        conf={"records": "quarantined", "cases": [str(case_id) for case_id in body.ids or []]},
        require=lambda connection, integration: quarantine_cases.require_open(
            connection, integration.id, body.entity_type, body.ids or []
        ),
    )
    left = await in_thread(_count_unreplayable, launcher.database, user, body)
    if isinstance(response.data, SyncResult):
        return DataResponse(data=ReplayResult(**response.data.model_dump(), left=left))
    return DataResponse(data=ReplayStarted(**response.data.model_dump(), left=left))


def _record(body: bytes) -> bytes:
    """Return the raw record in the body of a correction.

    Raises:
        UsageError: The body is JSON to Python's parser, but not to the stricter one.
    """
    try:
        return bytes(msgspec.json.decode(body, type=_Edit).record)
    except msgspec.DecodeError as broken:
        raise UsageError(f"The correction can't be accepted: {broken}") from None


def _correct(database: Database, case_id: UUID, payload: bytes, user: Principal) -> Case:
    with database.connect() as connection:
        case = user.case(connection, case_id)
        return correct(connection, case.id, payload, user.name)


def _count_unreplayable(database: Database, user: Principal, body: ReplayBody) -> int:
    with database.connect() as connection:
        return replaying.count_unreplayable(
            connection, user.integration(connection, body.integration_id).stream(body.entity_type), body.ids
        )


def _case_out(case: Case) -> CaseOut:
    return CaseOut.model_validate(case.as_json())
