"""Keep an organization's documents by order."""

from collections.abc import Callable
from dataclasses import dataclass, field

from softpro_sandbox.documents import seed_data
from softpro_sandbox.documents.content import Content
from softpro_sandbox.record_store import RecordStore
from softpro_sandbox.records.codec import Record, encode


@dataclass
class OrderDocuments:
    """The documents of one order: their versions and their contents, by id.

    Attributes:
        last_number: the highest number used in an id.
    """

    order_id: str
    store: RecordStore = field(default_factory=RecordStore)
    contents: dict[str, Content] = field(default_factory=dict)
    last_number: int = 0

    def listed(self, predicate: Callable[[bytes], bool]) -> list[bytes]:
        """List the visible documents that the predicate accepts, oldest change first."""
        shown = sorted(self.store.visible.items(), key=lambda item: (item[1].updated_ms, item[0]))
        return [version.body for _, version in shown if predicate(version.body)]

    def next_id(self) -> str:
        """Return an id that no document of the order has had."""
        self.last_number += 1
        return seed_data.document_id(self.order_id, self.last_number)

    def add(self, record: Record, content: Content, modified: int, surface_time: float) -> bytes:
        """Add a document, visible from `surface_time` on (milliseconds), and return its JSON bytes."""
        new_id = str(record["documentId"])
        self.contents[new_id] = content
        [version] = self.store.put([(new_id, modified, encode(record))], [surface_time])
        return version.body

    def remove(self, document_id: str) -> bool:
        """Remove a document, at once for readers too. Return False when it does not exist."""
        self.contents.pop(document_id, None)
        return self.store.delete(document_id)


@dataclass
class DocumentStore:
    """The documents of all orders. They are generated on first use (keeps the start fast with many orders)."""

    organization_id: str
    by_order: dict[str, OrderDocuments] = field(default_factory=dict)

    def of_order(self, order_id: str, order: Record, *, seeded: bool) -> OrderDocuments:
        """Return an order's documents; a seeded order has documents from the start."""
        documents = self.by_order.get(order_id)
        if documents is None:
            documents = self.by_order[order_id] = OrderDocuments(order_id)
            if seeded:
                self._fill(documents, order)
        return documents

    def drop(self, order_id: str) -> None:
        """Remove all documents of a deleted order."""
        self.by_order.pop(order_id, None)

    def _fill(self, documents: OrderDocuments, order: Record) -> None:
        rows = []
        for record, modified, content in seed_data.generate(self.organization_id, documents.order_id, order):
            documents.last_number += 1
            documents.contents[record["documentId"]] = content
            rows.append((record["documentId"], modified, encode(record)))
        documents.store.fill(rows)
