"""Preview a proposed mapping set on real records, without writing anything."""

from __future__ import annotations

import json
from threading import Event
from typing import Annotated

import msgspec
from fastapi import Depends, Request, Response

from softpro.analysis.preview import DEFAULT_RECORDS, RecordSelection, preview
from softpro.db.database import Database
from softpro_web.deps import Starter
from softpro_web.expensive import run_expensive
from softpro_web.models.base import DataResponse
from softpro_web.models.mappings import PreviewBody, PreviewOut
from softpro_web.responses import exact_json
from softpro_web.routes.mappings import MAPPINGS_BODY_BYTES
from softpro_web.routing import APIRouter, limits
from softpro_web.threads import in_thread

router = APIRouter()


class _SentRecord(msgspec.Struct):
    record: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_SentRecord).decode


async def _sent_record(request: Request) -> bytes | None:
    """Return the body's `record` as it was sent, because parsing rounds numbers.

    None if the strict parser refuses the body; then the record that pydantic parsed is used.
    """
    try:
        return (await in_thread(_decode, await request.body())).record
    except msgspec.DecodeError:
        return None


@router.post("/mappings/preview", response_model=DataResponse[PreviewOut])
@limits(body=MAPPINGS_BODY_BYTES)
async def preview_mappings(
    body: PreviewBody, request: Request, user: Starter, pasted: Annotated[bytes | None, Depends(_sent_record)]
) -> Response:
    """Show how records would be mapped after a change of mappings, compared with the set in force.

    The mappings update the set in force, or replace it, as `PUT /mappings` would. Uses fetched records,
    or one record in the body. Writes nothing. Ends when the client leaves.
    """

    def work(database: Database, stop: Event) -> Response:
        with database.connect() as connection:
            integration = user.integration(connection, body.integration_id)
        record = None if body.record is None else bytes(pasted or json.dumps(body.record).encode())
        chosen = RecordSelection(body.entity_ids, record, body.limit or DEFAULT_RECORDS)
        shown = preview(
            database, integration, body.entity_type, body.proposed(), chosen, stop.is_set, replace=body.replace
        )
        return exact_json({"success": True, "data": shown.as_json()})

    return await run_expensive(request, user.name, work)
