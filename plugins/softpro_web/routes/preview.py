"""Preview a proposed mapping set on real records, without writing anything."""

from __future__ import annotations

import json
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from softpro import json_codec
from softpro.analysis.preview import DEFAULT_RECORDS, RecordSelection, preview
from softpro_web.deps import DatabaseDep, Operator
from softpro_web.models.base import DataResponse
from softpro_web.models.mappings import PreviewBody, PreviewOut

router = APIRouter()


class _SentRecord(msgspec.Struct):
    record: msgspec.Raw = msgspec.Raw(b"null")


async def _sent_record(request: Request) -> bytes | None:
    """Return the body's `record` as it was sent, because parsing rounds numbers.

    None if the strict parser refuses the body; then the record that pydantic parsed is used.
    """
    try:
        return bytes(msgspec.json.decode(await request.body(), type=_SentRecord).record)
    except msgspec.DecodeError:
        return None


@router.post("/mappings/preview", response_model=DataResponse[PreviewOut])
def preview_mappings(
    body: PreviewBody, user: Operator, database: DatabaseDep, pasted: Annotated[bytes | None, Depends(_sent_record)]
) -> Response:
    """Show how a proposed mapping set would map records, compared with the set in force.

    Uses fetched records, or one record in the body. Writes nothing.
    """
    with database.connect() as connection:
        integration = user.integration(connection, body.integration_id)
    record = None if body.record is None else pasted or json.dumps(body.record).encode()
    chosen = RecordSelection(body.entity_ids, record, body.limit or DEFAULT_RECORDS)
    shown = preview(database, integration, body.entity_type, body.proposed(), chosen)
    body_out = {"success": True, "data": shown.as_json()}
    return Response(json_codec.encode(body_out), media_type="application/json")  # numbers keep all their digits
