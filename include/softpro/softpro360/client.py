"""The calls of the SoftPro 360 API (docs/softpro-api.md, Endpoints), one method each; `calls` sends them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, BinaryIO, TypeVar
from uuid import UUID, uuid4

import msgspec
from requests_toolbelt import MultipartEncoder

from softpro.db.database import Connection
from softpro.entities import EntityType
from softpro.errors import ConflictError, RecordNotFound, ServerError
from softpro.settings import VendorSettings
from softpro.softpro360 import capabilities
from softpro.softpro360.breaker import Breaker
from softpro.softpro360.budget import budget_for
from softpro.softpro360.calls import ApiTransport, Call
from softpro.softpro360.contract import ID_FIELDS, PATHS
from softpro.softpro360.list_parser import split
from softpro.softpro360.models import Document, Party, Profile, Property, Status, Typed, typed, typed_list
from softpro.softpro360.records import Record, Unreadable, read
from softpro.softpro360.responses import accepted, answered_at, checked, refused
from softpro.softpro360.transport import ApiResponse
from softpro.timestamps import format_time

TRANSFER_SECONDS = 600.0
"""How long the bytes of a document may take."""

HTML = "text/html"

Fields = Mapping[str, Any]
"""Fields of a record by the vendor's names; Decimal for money, None clears."""

T = TypeVar("T")

ORDER = "/transactions/{orderId}"
DOCUMENT = f"{ORDER}/documents/{{documentId}}"


@dataclass(frozen=True)
class Page:
    """One answer of a list: its records in the vendor's order, and the vendor's clock when it answered."""

    records: list[Record | Unreadable]
    total: int
    has_more: bool
    answered_at: datetime


@dataclass
class Client(ApiTransport):
    """One organization's connection. Any method raises what `Caller.call` does; what it raises beyond is said there.

    Where the vendor turned out not to send ETags, it does not heed `If-Match` either.
    """

    sends_etags: bool = True

    def profile(self) -> Profile:
        """Who the grant belongs to; the call that tells whether a token is good."""
        return self.call(Call("GET", "/user/profile"), lambda answer, what: _typed(Profile)(answer, what).fields)

    def statuses(self) -> list[Typed[Status]]:
        """The statuses that a transaction can be given."""
        return self.call(Call("GET", "/statuses"), _typed_list(Status))

    def list_page(self, entity_type: EntityType, *, updated_from: datetime | None, limit: int, offset: int) -> Page:
        """A page ordered by `updatedAt`, oldest first, from `updated_from` on (inclusive)."""
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
        """A page by any of the contract's filters and sorts; `search` finds a custom field `roiSystemsId` exactly."""
        call = Call("GET", PATHS[entity_type], parameters=parameters)
        return self.call(call, lambda answer, what: _page(answer, what, entity_type))

    def record(self, entity_type: EntityType, entity_id: str) -> Record | Unreadable:
        """One record, with its ETag where the vendor sends one. Raises RecordNotFound."""
        return self.call(_one("GET", entity_type, entity_id), _record(entity_type, entity_id))

    def create(self, entity_type: EntityType, fields: Fields) -> Record | Unreadable:
        """A new record. Where the answer is lost it may be there all the same: `creates` knows what to do then."""
        call = Call("POST", PATHS[entity_type], repeatable=False, **_json(fields))
        return self.call(call, _record(entity_type))

    def change(
        self, entity_type: EntityType, entity_id: str, fields: Fields, if_match: str | None = None
    ) -> Record | Unreadable:
        """Changes only the fields given. Raises RecordNotFound; ConflictError where `if_match` is not its ETag now.

        With `if_match` it is sent again when an answer is lost. A conflict is then no conflict where the record already
        holds what was sent: our first try made it.
        """
        if_match = if_match if self.sends_etags else None
        try:
            call = _one("PATCH", entity_type, entity_id, **_change(fields, if_match))
            return self.call(call, _record(entity_type, entity_id))
        except ConflictError as conflict:
            current = self.record(entity_type, entity_id) if conflict.repeated else None
            if current is None or not holds(current.payload, fields):
                raise
            return current

    def delete(self, entity_type: EntityType, entity_id: str) -> None:
        """Raises RecordNotFound; not where a first try may have deleted it and its answer was lost."""
        self._deleted(_one("DELETE", entity_type, entity_id))

    def change_status(self, order_id: str, status_id: str) -> Record | Unreadable:
        """Gives a transaction one of the `statuses`. Raises ValidationError, RecordNotFound."""
        call = Call("PATCH", f"{ORDER}/status", {"orderId": order_id}, **_change({"statusId": status_id}, None))
        return self.call(call, _record(EntityType.TRANSACTION, order_id))

    def parties(self, order_id: str) -> list[Typed[Party]]:
        """Everybody who has a part in an order. Raises RecordNotFound."""
        return self.call(Call("GET", f"{ORDER}/parties", {"orderId": order_id}), _typed_list(Party))

    def create_party(self, order_id: str, fields: Fields) -> Typed[Party]:
        """Adds somebody to an order. Raises RecordNotFound, ValidationError; for a lost answer see `creates`."""
        call = Call("POST", f"{ORDER}/parties", {"orderId": order_id}, repeatable=False, **_json(fields))
        return self.call(call, _typed(Party))

    def change_party(self, order_id: str, party_id: str, fields: Fields) -> Typed[Party]:
        """Changes only the fields given. Raises RecordNotFound, ValidationError."""
        ids = {"orderId": order_id, "partyId": party_id}
        return self.call(Call("PATCH", f"{ORDER}/parties/{{partyId}}", ids, **_change(fields, None)), _typed(Party))

    def property(self, order_id: str) -> Typed[Property]:
        """What an order is about. Raises RecordNotFound."""
        return self.call(Call("GET", f"{ORDER}/property", {"orderId": order_id}), _typed(Property))

    def change_property(self, order_id: str, fields: Fields) -> Typed[Property]:
        """Changes only the fields given. Raises RecordNotFound, ValidationError."""
        call = Call("PATCH", f"{ORDER}/property", {"orderId": order_id}, **_change(fields, None))
        return self.call(call, _typed(Property))

    def documents(self, order_id: str, **filters: str) -> list[Typed[Document]]:
        """An order's documents; `filters` are the contract's (documentType, status, …). Raises RecordNotFound."""
        call = Call("GET", f"{ORDER}/documents", {"orderId": order_id}, parameters=filters)
        return self.call(call, _typed_list(Document))

    def document(self, order_id: str, document_id: str) -> Typed[Document]:
        """One document, without its bytes. Raises RecordNotFound."""
        return self.call(Call("GET", DOCUMENT, _ids(order_id, document_id)), _typed(Document))

    def download(self, document: Document, into: BinaryIO) -> None:
        """Writes a document's bytes to a file, which is emptied first. Raises RecordNotFound.

        That they are whole is checked by the document's `file_size`; where it has none, by HTTP's own length alone.
        """

        def parse(answer: ApiResponse, what: str) -> None:
            refused(answer, what)
            if document.mime_type != HTML and answer.headers.get("Content-Type", "").startswith(HTML):
                raise ServerError(f"{what}: a page came instead of the document")
            size = into.tell()
            if document.file_size is not None and size != document.file_size:
                raise ServerError(f"{what}: {size} bytes came, the document has {document.file_size}")

        route, ids = f"{DOCUMENT}/download", _ids(document.order_id, document.document_id)
        self.call(Call("GET", route, ids, headers={"Accept": "*/*"}, seconds=TRANSFER_SECONDS, into=into), parse)

    def upload(
        self, order_id: str, file: BinaryIO, file_name: str, mime_type: str, metadata: Fields
    ) -> Typed[Document]:
        """Sends a file, streamed from where it stands, as a new document. Raises RecordNotFound, ValidationError.

        Where the answer is lost: see `creates`.
        """
        boundary, start = uuid4().hex, file.tell()

        def form() -> MultipartEncoder:
            file.seek(start)
            parts = {"metadata": _encode(metadata).decode(), "file": (file_name, file, mime_type)}
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
        """Raises RecordNotFound, as `delete` does."""
        self._deleted(Call("DELETE", DOCUMENT, _ids(order_id, document_id)))

    def _deleted(self, call: Call) -> None:
        try:
            self.call(call, accepted)
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
    """The client of an integration's environment, SANDBOX or PRODUCTION.

    `connection`, in autocommit, is the client's own while it lives; `bulk` work leaves a reserve to everybody else.
    """
    return Client(
        base_url=settings.production_base_url if environment == "PRODUCTION" else settings.sandbox_base_url,
        token=token,
        budget=budget_for(connection, integration_id, settings, bulk=bulk),
        breaker=Breaker(connection, integration_id),
        max_retries=settings.max_retries,
        sends_etags=capabilities.read(connection, integration_id).sends_etags,
    )


def holds(payload: bytes, fields: Fields) -> bool:
    """Whether a record already is what a PATCH of these fields would make of it: objects are merged, null clears."""
    return _holds(_exact(payload), _exact(_encode(fields)))


def _holds(current: Any, sent: Any) -> bool:
    if isinstance(sent, dict):
        return isinstance(current, dict) and all(_holds(current.get(name), value) for name, value in sent.items())
    return bool(current == sent)


_encode = msgspec.json.Encoder(decimal_format="number").encode
_exact = msgspec.json.Decoder(float_hook=Decimal).decode


def _json(fields: Fields) -> dict[str, Any]:
    body = _encode(fields)
    return {"body": lambda: body, "headers": {"Content-Type": "application/json"}}


def _change(fields: Fields, if_match: str | None) -> dict[str, Any]:
    """The body of a PATCH, which may be sent again only where the vendor would notice that it was done."""
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
    """Raises ServerError for what is no record, or not the one that was asked for."""

    def parse(answer: ApiResponse, what: str) -> Record | Unreadable:
        record = read(checked(answer, what), entity_type)
        found = record.key.id if isinstance(record, Record) else record.entity_id
        if found is None or entity_id not in (None, found):
            raise ServerError(f"{what}: the answer is not the {entity_type.value.lower()} that was asked for")
        return replace(record, etag=answer.headers.get("ETag")) if isinstance(record, Record) else record

    return parse


def _typed(shape: type[T]) -> Callable[[ApiResponse, str], Typed[T]]:
    return lambda answer, what: typed(checked(answer, what), shape, what)


def _typed_list(shape: type[T]) -> Callable[[ApiResponse, str], list[Typed[T]]]:
    return lambda answer, what: typed_list(checked(answer, what), shape, what)


def _page(answer: ApiResponse, what: str, entity_type: EntityType) -> Page:
    records, pagination = split(checked(answer, what), what)
    if pagination.has_more and not records:
        raise ServerError(f"{what}: the answer says that there is more, and sends nothing")
    moment = answered_at(answer)
    if moment is None:
        raise ServerError(f"{what}: the answer carries no Date, which the cursor needs")
    return Page(
        records=[read(record, entity_type) for record in records],
        total=pagination.total,
        has_more=pagination.has_more,
        answered_at=moment,
    )
