"""The quarantine: its cases listed, looked at, corrected, replayed and discarded."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

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

router = APIRouter(prefix="/quarantine")
Text = Annotated[str | None, Query(max_length=200, pattern=WITHOUT_NUL)]


class _Edit(msgspec.Struct):
    """The body of an edit, its record byte for byte: a number has more digits than Python's would keep."""

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
    """The integration's cases, the one that failed last first; open ones unless another resolution is named.

    Reasons quote what was found in records of persons, so that reading is not enough.
    """
    with database.connect() as connection:
        user.integration(connection, integration_id)
        found, total = quarantine_cases.page(
            connection, integration_id, CaseFilter(entity_type, column, rule, resolution), limit, offset
        )
    return ListResponse(data=[_case_out(case) for case in found], meta=Meta(total=total, limit=limit, offset=offset))


@router.get("/{case_id}", responses={200: {"model": DataResponse[CaseDetail]}})
def get_quarantine_case(case_id: UUID, user: Operator, database: DatabaseDep) -> Response:
    """All of a case, whole records of persons included, so that reading is not enough. Its payload stands in the answer
    as it was sent, every digit and escape of it."""
    with database.connect() as connection:
        case = user.case(connection, case_id)
        both = quarantine_cases.payloads(connection, case)
    answer = b'{"success": true, "data": ' + quarantine_cases.as_json_bytes(case, both) + b"}"
    return Response(answer, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.put("/{case_id}", responses={202: {"model": DataResponse[ReplayStarted]}})
async def correct_quarantine_case(
    case_id: UUID,
    body: EditBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[ReplayResult] | DataResponse[ReplayStarted]:
    """Corrects the case's record and replays it. Where another run works on the stream, the next one loads it."""
    record = _record(await launcher.request.body())
    case = await run_in_threadpool(_correct, launcher.database, case_id, record, user)
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
    """Maps, checks and loads the records of open cases again: the result when it ends within the wait, else 202."""
    return await _replay(user, body, launcher)


@router.post("/{case_id}/discard")
def discard_quarantine_case(
    case_id: UUID, body: DiscardBody, user: Operator, database: DatabaseDep
) -> DataResponse[CaseOut]:
    """Closes a case whose record is not to be loaded, until SoftPro sends another version of it."""
    with database.connect() as connection:
        case = user.case(connection, case_id)
        return DataResponse(data=_case_out(quarantine_cases.discard(connection, case.id, body.reason, user.name)))


async def _replay(
    user: Principal, body: ReplayBody, launcher: Launcher
) -> DataResponse[ReplayResult] | DataResponse[ReplayStarted]:
    answer = await launcher.run(
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
    left = await run_in_threadpool(_count_unreplayable, launcher.database, user, body)
    if isinstance(answer.data, SyncResult):
        return DataResponse(data=ReplayResult(**answer.data.model_dump(), left=left))
    return DataResponse(data=ReplayStarted(**answer.data.model_dump(), left=left))


def _record(body: bytes) -> bytes:
    """The record in the body of an edit. Raises UsageError where it is JSON to Python, and to no stricter reader."""
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
