"""What a proposed mapping set would do, shown without doing it."""

from __future__ import annotations

import json
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from softpro import json_codec
from softpro.analysis.preview import DEFAULT_RECORDS, RecordSelection
from softpro.analysis.preview import preview as show
from softpro_web.deps import DatabaseDep, Operator
from softpro_web.models.base import DataResponse
from softpro_web.models.mappings import PreviewBody, PreviewOut

router = APIRouter()


class _SentRecord(msgspec.Struct):
    record: msgspec.Raw = msgspec.Raw(b"null")


async def _sent_record(request: Request) -> bytes | None:
    """The body's `record` as it was sent, since parsing rounds numbers; None where only a patient reader can tell."""
    try:
        return bytes(msgspec.json.decode(await request.body(), type=_SentRecord).record)
    except msgspec.DecodeError:
        return None


@router.post("/mappings/preview", response_model=DataResponse[PreviewOut])
def preview_mappings(
    body: PreviewBody, user: Operator, database: DatabaseDep, pasted: Annotated[bytes | None, Depends(_sent_record)]
) -> Response:
    """What the proposed set makes of real records, or of a pasted one, beside what the set in force makes of them."""
    with database.connect() as connection:
        integration = user.integration(connection, body.integration_id)
    record = None if body.record is None else pasted or json.dumps(body.record).encode()
    chosen = RecordSelection(body.entity_ids, record, body.limit or DEFAULT_RECORDS)
    shown = show(database, integration, body.entity_type, body.proposed(), chosen)
    answer = {"success": True, "data": shown.as_json()}
    return Response(json_codec.encode(answer), media_type="application/json")  # numbers with all their digits
