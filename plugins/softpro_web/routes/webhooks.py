"""Receive SoftPro's webhooks, and list, show, retry and count the events."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import FastAPI, HTTPException, Query, Request, Response

from softpro.db.refusals import Refusal
from softpro.errors import SettingsError, UsageError
from softpro.settings import WebhookSettings, load
from softpro.webhooks import events, verify
from softpro.webhooks.batch_writer import BatchWriters
from softpro.webhooks.deliveries import MAX_ATTEMPTS, Delivery, Verdict
from softpro.webhooks.events import Event, EventEntityType, EventFilter, EventStatus
from softpro.webhooks.verify import MAX_BODY_BYTES, MAX_TEXT_CHARACTERS, TIMESTAMP_TOLERANCE
from softpro_web.database import web_database
from softpro_web.deps import Configurer, DatabaseDep, Operator, Reader
from softpro_web.limiters import Brake
from softpro_web.models.base import DataResponse, ListResponse, MessageResponse, Meta
from softpro_web.models.quarantine import WITHOUT_NUL
from softpro_web.models.webhooks import (
    EventDetail,
    EventOut,
    RetriedCount,
    RetryBody,
    RetryManyBody,
    StatsOut,
    WebhookConfig,
    WebhookConfigBody,
)
from softpro_web.pagination import DEFAULT_LIMIT, Limit, Offset
from softpro_web.paths import public_url
from softpro_web.refusals import counter
from softpro_web.routing import APIRouter, limits

KEPT_HEADERS = ("content-type", "user-agent", "x-softpro-delivery")
MAX_HEADER_CHARACTERS = 500

_writers = BatchWriters(web_database)


@asynccontextmanager
async def _closing(_: FastAPI) -> AsyncIterator[None]:
    """Close the batch writers when the server stops. Airflow runs the lifespans of the apps that it mounts."""
    try:
        yield
    finally:
        await _writers.close_here()


router = APIRouter(prefix="/webhooks", lifespan=_closing)
log = logging.getLogger(__name__)

IntegrationId = Annotated[UUID, Query(alias="integrationId")]

_headers = msgspec.json.Encoder()
_STORED = b'{"success":true,"message":"The event is stored"}'
_STORED_BEFORE = b'{"success":true,"message":"The event was stored before"}'


@router.get("/events")
def list_webhook_events(
    user: Reader,
    database: DatabaseDep,
    integration_id: IntegrationId,
    status: EventStatus | None = None,
    entity_type: Annotated[EventEntityType | None, Query(alias="entityType")] = None,
    event_type: Annotated[
        str | None,
        Query(alias="eventType", max_length=MAX_TEXT_CHARACTERS, pattern=WITHOUT_NUL, description="ORDER_CLOSED, …"),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> ListResponse[EventOut]:
    """List an integration's webhook events, newest first, without payloads."""
    with database.connect() as connection:
        user.integration(connection, integration_id)
        found, total = events.page(
            connection, integration_id, EventFilter(status, entity_type, event_type), limit, offset
        )
    return ListResponse(data=[_out(event) for event in found], meta=Meta(total=total, limit=limit, offset=offset))


@router.get("/events/{event_id}", responses={200: {"model": DataResponse[EventDetail]}})
def get_webhook_event(event_id: UUID, user: Operator, database: DatabaseDep, integration_id: IntegrationId) -> Response:
    """Return a webhook event with all details.

    Requires *operate*, because the payload can hold personal data.
    """
    with database.connect() as connection:
        user.integration(connection, integration_id)
        shown = events.full_json(connection, events.get(connection, integration_id, event_id))
    return Response(b'{"success":true,"data":' + shown + b"}", media_type="application/json")


@router.post("/events/retry")
def retry_webhook_events(body: RetryManyBody, user: Operator, database: DatabaseDep) -> DataResponse[RetriedCount]:
    """Retry several events now, with all attempts again.

    Retries those of `ids` that are FAILED or RETRYING, or without `ids` all FAILED events.
    """
    if body.ids is not None and body.entity_type is not None:
        raise UsageError("Give ids or entityType, not both")
    with database.connect() as connection:
        user.integration(connection, body.integration_id)
        if body.ids is not None:
            retried = events.retry_some(connection, body.integration_id, body.ids, user.name)
        else:
            retried = events.retry_failed(connection, body.integration_id, body.entity_type, user.name)
    return DataResponse(data=RetriedCount(retried=retried))


@router.post("/events/{event_id}/retry")
def retry_webhook_event(
    event_id: UUID, body: RetryBody, user: Operator, database: DatabaseDep
) -> DataResponse[EventOut]:
    """Retry one event now, with all attempts again.

    Returns 409 if the event is neither FAILED nor RETRYING.
    """
    with database.connect() as connection:
        user.integration(connection, body.integration_id)
        return DataResponse(data=_out(events.retry(connection, body.integration_id, event_id, user.name)))


@router.get("/stats")
def get_webhook_stats(user: Reader, database: DatabaseDep, integration_id: IntegrationId) -> DataResponse[StatsOut]:
    """Return counts of events by status, type and day, waiting and settling times, and refused deliveries."""
    with database.connect() as connection:
        user.integration(connection, integration_id)
        found = events.stats(connection, integration_id)
    return DataResponse(data=StatsOut.model_validate(found.as_json()))


@router.get("/config")
def get_webhook_config(
    request: Request, user: Reader, database: DatabaseDep, integration_id: IntegrationId
) -> DataResponse[WebhookConfig]:
    """Return whether webhooks are on, the address for SoftPro's events, and the receiver's limits."""
    with database.connect() as connection:
        user.integration(connection, integration_id)
        on = events.webhooks_enabled(connection, integration_id)
    return DataResponse(data=_config(request, integration_id, on=on))


@router.patch("/config")
def update_webhook_config(
    body: WebhookConfigBody, request: Request, user: Configurer, database: DatabaseDep
) -> DataResponse[WebhookConfig]:
    """Switch an integration's webhooks on or off.

    Events that are already stored are processed in either case.
    """
    with database.connect() as connection:
        user.integration(connection, body.integration_id)
        events.set_webhooks_enabled(connection, body.integration_id, on=body.webhooks_enabled)
    return DataResponse(data=_config(request, body.integration_id, on=body.webhooks_enabled))


@router.post(
    "/{integration_id}",
    status_code=202,
    response_model=MessageResponse,
    responses={
        200: {"model": MessageResponse, "description": "The event was stored before"},
        400: {"description": "The body is signed, but not a valid event"},
        401: {"description": "The signature is missing or wrong, or a new event's timestamp is not current"},
        404: {"description": "The receiver does not exist, or does not accept this event"},
        413: {"description": "The body is too large"},
        503: {"description": "The database is unavailable; send the event again"},
    },
    openapi_extra={
        "parameters": [
            {
                "name": "X-SoftPro-Signature",
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": "Lower-case hex HMAC-SHA256 of the raw body under SOFTPRO_WEBHOOK_SECRET.",
            }
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    },
)
@limits(
    body=MAX_BODY_BYTES, brake=Brake(at_once=2_000, at_once_each=2_000, per_second=2_000, burst=5_000, refused_cost=20)
)
async def receive_webhook(integration_id: str, request: Request) -> Response:
    """Receive an event from SoftPro.

    The route requires no login, because SoftPro has no token. The signature over the raw body authenticates the
    sender, and is checked first. The response is 202 or 200 once the event is stored on disk.
    """
    body = await request.body()
    signature = request.headers.get("X-SoftPro-Signature")
    wanted = _uuid(integration_id)
    if not verify.is_signed(body, signature, _secrets()):
        counter.count(Refusal.WEBHOOK_SIGNATURE, wanted)
        raise HTTPException(401, "The signature is missing or wrong")
    event = verify.parse(body)
    if wanted is None:
        raise HTTPException(404, "No such receiver")
    kept = {name: request.headers[name][:MAX_HEADER_CHARACTERS] for name in KEPT_HEADERS if name in request.headers}
    verdict = await _writers.here().put(
        Delivery(
            integration_id=wanted,
            organization=event.organization,
            event_id=event.id,
            event_type=event.type,
            entity_type=event.entity_type,
            entity_id=event.entity_id,
            priority=event.priority,
            record_updated_at=event.record_updated_at,
            payload=event.payload,
            bare=event.bare,
            headers=_headers.encode(kept).decode(),
            signature=signature or "",
            timely=verify.is_timely(event.timestamp, datetime.now(UTC)),
        )
    )
    if verdict is Verdict.REFUSED:
        raise HTTPException(404, "No such receiver")
    if verdict is Verdict.STALE:
        counter.count(Refusal.WEBHOOK_TIMESTAMP, wanted)
        raise HTTPException(401, "The event's timestamp is not current")
    stored = verdict is Verdict.STORED
    return Response(_STORED if stored else _STORED_BEFORE, 202 if stored else 200, media_type="application/json")


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


@functools.cache
def _secrets() -> tuple[bytes, ...]:
    """Return the webhook secrets, read once per process."""
    try:
        (settings,) = load(WebhookSettings)
    except SettingsError as wrong:
        log.error("Webhooks are refused: %s", wrong)
        return ()
    if not settings.secrets:
        log.warning("Webhooks are refused: SOFTPRO_WEBHOOK_SECRET is not set")
    return settings.secrets


def _config(request: Request, integration_id: UUID, *, on: bool) -> WebhookConfig:
    return WebhookConfig(
        webhooks_enabled=on,
        receiver_url=f"{public_url(request)}/webhooks/{integration_id}",
        secrets=len(_secrets()),
        replay_window_seconds=int(TIMESTAMP_TOLERANCE.total_seconds()),
        largest_body_bytes=MAX_BODY_BYTES,
        max_attempts=MAX_ATTEMPTS,
    )


def _out(event: Event) -> EventOut:
    return EventOut.model_validate(event.as_json())
