"""Define one method for each call of the SoftPro 360 API (docs/softpro-api.md, Endpoints). `calls` sends them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any, BinaryIO, TypeVar
from uuid import UUID, uuid4

import msgspec
from requests_toolbelt import MultipartEncoder

from softpro import json_codec
from softpro.db.database import Connection
from softpro.entities import EntityType
from softpro.errors import ConflictError, RecordNotFound, ServerError
from softpro.settings import VendorSettings
from softpro.softpro360 import capabilities
from softpro.softpro360.breaker import Breaker
from softpro.softpro360.budget import budget_for
from softpro.softpro360.calls import ApiTransport, Call
from softpro.softpro360.contract import ID_FIELDS, MAX_PAGE_SIZE, PATHS
from softpro.softpro360.list_parser import split
from softpro.softpro360.models import Document, Party, Profile, Property, Status, Typed, typed, typed_list
from softpro.softpro360.records import Record, Unreadable, read
from softpro.softpro360.responses import decode, json_body, raise_for_status, require_success, response_date
from softpro.softpro360.transport import ApiResponse
from softpro.timestamps import format_time

TRANSFER_SECONDS = 600.0
MAX_DOCUMENT_BYTES = 512 * 1024 * 1024
"""The limit for transferring the bytes of a document."""

HTML = "text/html"

Fields = Mapping[str, Any]
"""Fields of a record by the vendor's names; Decimal for money, None clears."""

T = TypeVar("T")

ORDER = "/transactions/{orderId}"
DOCUMENT = f"{ORDER}/documents/{{documentId}}"


@dataclass(frozen=True)
class Page:
    """A page of a list: records in the vendor's order, and `answered_at`, the vendor's clock at the response."""

    records: list[Record | Unreadable]
    total: int
    has_more: bool
    answered_at: datetime


@dataclass
class Client(ApiTransport):
    """An organization's client of the API. Each method also raises the errors of `ApiTransport.call`.

    A vendor that sends no ETags (`sends_etags` is False) does not honor `If-Match` either.
    """

    sends_etags: bool = True

    def profile(self) -> Profile:
        """Return the owner of the grant. This call shows whether a token is valid."""
        return self.call(Call("GET", "/user/profile"), lambda response, what: _typed(Profile)(response, what).fields)

    def statuses(self) -> list[Typed[Status]]:
        """Return the statuses that a transaction can have."""
        return self.call(Call("GET", "/statuses"), _typed_list(Status))

    def list_page(self, entity_type: EntityType, *, updated_from: datetime | None, limit: int, offset: int) -> Page:
        """Return a page ordered by `updatedAt`, oldest first, starting at `updated_from` (inclusive)."""
        parameters: dict[str, str | int] = {
            "limit": limit,
            "offset": offset,
            "sortBy": "updatedAt",
            "sortOrder": "asc",
        }
        if updated_from is not None:
            parameters["updatedFrom"] = format_time(updated_from)
        return self.select(entity_type, parameters)

    def select(self, entity_type: EntityType, parameters: Mapping[str, str | int]) -> Page:
        """Return a page by any filter and sort order of the contract. `search` finds our `roiSystemsId` exactly.

        Raises:
            ServerError: the page contradicts itself about what follows.
        """
        call = Call("GET", PATHS[entity_type], parameters=parameters)
        limit, offset = int(parameters.get("limit", MAX_PAGE_SIZE)), int(parameters.get("offset", 0))
        return self.call(call, lambda response, what: _page(response, what, entity_type, limit, offset))

    def record(self, entity_type: EntityType, entity_id: str) -> Record | Unreadable:
        """Return one record, with its ETag if the vendor sends one. Raises RecordNotFound."""
        return self.call(_one("GET", entity_type, entity_id), _record(entity_type, entity_id))

    def create(self, entity_type: EntityType, fields: Fields) -> Record | Unreadable:
        """Create a record. If the response is lost the record may exist, which `creates` handles.

        A response with only a part of the record is returned as Unreadable.
        """
        call = Call("POST", PATHS[entity_type], repeatable=False, **_json(fields))
        sent = [name for name, value in fields.items() if value is not None]
        return self.call(call, _written(entity_type, None, sent))

    def change(
        self,
        entity_type: EntityType,
        entity_id: str,
        fields: Fields,
        if_match: str | None = None,
        known: Collection[str] = (),
    ) -> Record | Unreadable:
        """Change only the given fields. With `if_match`, the request is repeated if a response is lost.

        A conflict is ignored if an earlier attempt may have made the change and the record already holds the sent
        fields. A response without a body, or with only a part of the record, is returned as Unreadable.

        Args:
            entity_type: the record's type.
            entity_id: the record's id.
            fields: the fields to change.
            if_match: the ETag of the version to change.
            known: the fields that the record is known to have. A whole record has them all.

        Raises:
            RecordNotFound: the record does not exist.
            ConflictError: the record's ETag is not `if_match`.
        """
        if_match = if_match if self.sends_etags else None
        try:
            call = _one("PATCH", entity_type, entity_id, **_change(fields, if_match))
            cleared = {name for name, value in fields.items() if value is None}
            return self.call(call, _written(entity_type, entity_id, {*fields, *known} - cleared))
        except ConflictError as conflict:
            current = self.record(entity_type, entity_id) if conflict.repeated else None
            if current is None or not contains_fields(current.payload, fields):
                raise
            return current

    def delete(self, entity_type: EntityType, entity_id: str) -> None:
        """Delete a record.

        Raises:
            RecordNotFound: the record does not exist, unless an earlier attempt with a lost response may have deleted
                it.
        """
        self._deleted(_one("DELETE", entity_type, entity_id))

    def change_status(self, order_id: str, status_id: str) -> Record | Unreadable:
        """Set a transaction to one of the `statuses`. Raises ValidationError, RecordNotFound."""
        call = Call("PATCH", f"{ORDER}/status", {"orderId": order_id}, **_change({"statusId": status_id}, None))
        return self.call(call, _record(EntityType.TRANSACTION, order_id))

    def parties(self, order_id: str) -> list[Typed[Party]]:
        """Return the parties of an order. Raises RecordNotFound."""
        return self.call(Call("GET", f"{ORDER}/parties", {"orderId": order_id}), _typed_list(Party))

    def create_party(self, order_id: str, fields: Fields) -> Typed[Party]:
        """Add a party to an order. Raises RecordNotFound, ValidationError; `creates` handles a lost response."""
        call = Call("POST", f"{ORDER}/parties", {"orderId": order_id}, repeatable=False, **_json(fields))
        return self.call(call, _typed(Party))

    def change_party(self, order_id: str, party_id: str, fields: Fields) -> Typed[Party]:
        """Change only the given fields. Raises RecordNotFound, ValidationError."""
        ids = {"orderId": order_id, "partyId": party_id}
        return self.call(Call("PATCH", f"{ORDER}/parties/{{partyId}}", ids, **_change(fields, None)), _typed(Party))

    def property(self, order_id: str) -> Typed[Property]:
        """Return the property of an order. Raises RecordNotFound."""
        return self.call(Call("GET", f"{ORDER}/property", {"orderId": order_id}), _typed(Property))

    def change_property(self, order_id: str, fields: Fields) -> Typed[Property]:
        """Change only the given fields. Raises RecordNotFound, ValidationError."""
        call = Call("PATCH", f"{ORDER}/property", {"orderId": order_id}, **_change(fields, None))
        return self.call(call, _typed(Property))

    def documents(self, order_id: str, **filters: str) -> list[Typed[Document]]:
        """Return an order's documents, filtered as in the contract (documentType, status, …). Raises RecordNotFound."""
        call = Call("GET", f"{ORDER}/documents", {"orderId": order_id}, parameters=filters)
        return self.call(call, _typed_list(Document))

    def document(self, order_id: str, document_id: str) -> Typed[Document]:
        """Return one document without its bytes. Raises RecordNotFound."""
        return self.call(Call("GET", DOCUMENT, _ids(order_id, document_id)), _typed(Document))

    def download(self, document: Document, into: BinaryIO) -> None:
        """Write a document's bytes to a file, which is emptied first.

        The document's `file_size` verifies the length. Without it, only HTTP's own length does.

        Raises:
            RecordNotFound: the document does not exist.
            ServerError: the vendor sent a page, another number of bytes, or more than `MAX_DOCUMENT_BYTES`.
        """
        most = MAX_DOCUMENT_BYTES if document.file_size is None else document.file_size
        if most > MAX_DOCUMENT_BYTES:
            raise ServerError(f"The document has {most} bytes, more than the limit of {MAX_DOCUMENT_BYTES}")

        def parse(response: ApiResponse, what: str) -> None:
            raise_for_status(response, what)
            if document.mime_type != HTML and response.headers.get("Content-Type", "").startswith(HTML):
                raise ServerError(f"{what}: the response is a page instead of the document")
            size = into.tell()
            if document.file_size is not None and size != document.file_size:
                raise ServerError(f"{what}: received {size} bytes, the document has {document.file_size}")

        route, ids = f"{DOCUMENT}/download", _ids(document.order_id, document.document_id)
        self.call(
            Call("GET", route, ids, headers={"Accept": "*/*"}, seconds=TRANSFER_SECONDS, into=into, max_bytes=most),
            parse,
        )

    def upload(
        self, order_id: str, file: BinaryIO, file_name: str, mime_type: str, metadata: Fields
    ) -> Typed[Document]:
        """Stream a file from its current position as a new document. `creates` handles a lost response.

        Raises:
            RecordNotFound: the order does not exist.
            ValidationError: the metadata is invalid.
        """
        boundary, start = uuid4().hex, file.tell()

        def form() -> MultipartEncoder:
            file.seek(start)
            parts = {"metadata": json_codec.encode(metadata).decode(), "file": (file_name, file, mime_type)}
            return MultipartEncoder(parts, boundary)

        call = Call(
            "POST",
            f"{ORDER}/documents",
            {"orderId": order_id},
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
            body=form,
            repeatable=False,
            seconds=TRANSFER_SECONDS,
        )
        return self.call(call, _typed(Document))

    def delete_document(self, order_id: str, document_id: str) -> None:
        """Delete a document. Raises RecordNotFound as `delete` does."""
        self._deleted(Call("DELETE", DOCUMENT, _ids(order_id, document_id)))

    def _deleted(self, call: Call) -> None:
        try:
            self.call(call, require_success)
        except RecordNotFound as gone:
            if not gone.repeated:
                raise


def client_for(
    connection: Connection,
    integration_id: UUID,
    environment: str,
    settings: VendorSettings,
    token: Callable[[str | None], str],
    *,
    bulk: bool = False,
) -> Client:
    """Create the client for an integration's environment, SANDBOX or PRODUCTION.

    Args:
        connection: a connection in autocommit that only this client uses.
        integration_id: the integration.
        environment: SANDBOX or PRODUCTION.
        settings: the vendor's addresses and limits.
        token: gives an access token; see `ApiTransport`.
        bulk: leave part of the rate limit to other calls.
    """
    return Client(
        base_url=settings.production_base_url if environment == "PRODUCTION" else settings.sandbox_base_url,
        token=token,
        budget=budget_for(connection, integration_id, settings, bulk=bulk),
        breaker=Breaker(connection, integration_id),
        max_retries=settings.max_retries,
        sends_etags=capabilities.read(connection, integration_id).sends_etags,
    )


def contains_fields(payload: bytes, fields: Fields) -> bool:
    """Return whether a PATCH of these fields would leave the record unchanged. Objects are merged, null clears."""
    return _contains(json_codec.decode(payload), json_codec.decode(json_codec.encode(fields)))


def _contains(current: Any, sent: Any) -> bool:
    if isinstance(sent, dict):
        return isinstance(current, dict) and all(_contains(current.get(name), value) for name, value in sent.items())
    return bool(current == sent)


def _json(fields: Fields) -> dict[str, Any]:
    body = json_codec.encode(fields)
    return {"body": lambda: body, "headers": {"Content-Type": "application/json"}}


def _change(fields: Fields, if_match: str | None) -> dict[str, Any]:
    """Return the body of a PATCH. It is repeatable only with `If-Match`, which exposes a repetition to the vendor."""
    sent = _json(fields)
    if if_match is None:
        return {**sent, "repeatable": False}
    return {**sent, "headers": {**sent["headers"], "If-Match": if_match}}


def _one(method: str, entity_type: EntityType, entity_id: str, **more: Any) -> Call:
    field = ID_FIELDS[entity_type]
    return Call(method, f"{PATHS[entity_type]}/{{{field}}}", {field: entity_id}, **more)


def _ids(order_id: str, document_id: str) -> dict[str, str]:
    return {"orderId": order_id, "documentId": document_id}


def _record(entity_type: EntityType, entity_id: str | None = None) -> Callable[[ApiResponse, str], Record | Unreadable]:
    """Return a parser that raises ServerError for a response without a record, or with another one than requested."""

    def parse(response: ApiResponse, what: str) -> Record | Unreadable:
        return _requested(read(json_body(response, what), entity_type), response, what, entity_type, entity_id)

    return parse


def _requested(
    record: Record | Unreadable, response: ApiResponse, what: str, entity_type: EntityType, entity_id: str | None
) -> Record | Unreadable:
    """Return the record of a response with its ETag. Raises ServerError if it is another one than requested."""
    found = record.key.id if isinstance(record, Record) else record.entity_id
    if found is None or entity_id not in (None, found):
        raise ServerError(f"{what}: the response is not the requested {entity_type.value.lower()}")
    return replace(record, etag=response.headers.get("ETag")) if isinstance(record, Record) else record


def _written(
    entity_type: EntityType, entity_id: str | None, names: Collection[str]
) -> Callable[[ApiResponse, str], Record | Unreadable]:
    """Return a parser like `_record` for the response to a change.

    A response without a body, with some of these fields but no id, or without one of these fields is Unreadable.
    """
    wanted = set(names)

    def parse(response: ApiResponse, what: str) -> Record | Unreadable:
        if response.status_code == HTTPStatus.NO_CONTENT and entity_id is not None:
            return Unreadable(b"", "the response has no body", entity_id)
        body = json_body(response, what)
        record = read(body, entity_type)
        is_without_id = isinstance(record, Unreadable) and record.entity_id is None
        if is_without_id and entity_id is not None and wanted & _names(body, what):
            return Unreadable(body, "the response is only a part of the record", entity_id)
        record = _requested(record, response, what, entity_type, entity_id)
        if isinstance(record, Record) and not wanted <= _names(body, what):
            return Unreadable(body, "the response is only a part of the record", record.key.id)
        return record

    return parse


def _names(body: bytes, what: str) -> Set[str]:
    """Return the names of the fields of a JSON object. Raises ServerError if the body is none."""
    fields: dict[str, msgspec.Raw] = decode(body, dict[str, msgspec.Raw], what)
    return fields.keys()


def _typed(shape: type[T]) -> Callable[[ApiResponse, str], Typed[T]]:
    return lambda response, what: typed(json_body(response, what), shape, what)


def _typed_list(shape: type[T]) -> Callable[[ApiResponse, str], list[Typed[T]]]:
    return lambda response, what: typed_list(json_body(response, what), shape, what)


def _page(response: ApiResponse, what: str, entity_type: EntityType, limit: int, offset: int) -> Page:
    records, pagination = split(json_body(response, what), what)
    if pagination.has_more and not records:
        raise ServerError(f"{what}: the page is empty but announces more records")
    if not pagination.has_more and len(records) >= limit and pagination.total > offset + len(records):
        raise ServerError(
            f"{what}: the page contradicts itself: it is full and says that nothing follows, but "
            f"{offset + len(records)} of {pagination.total} records were listed"
        )
    moment = response_date(response)
    if moment is None:
        raise ServerError(f"{what}: the response has no Date header, which the cursor needs")
    return Page(
        records=[read(record, entity_type) for record in records],
        total=pagination.total,
        has_more=pagination.has_more,
        answered_at=moment,
    )
