"""An organization's documents: a shelf for each order that somebody has asked about."""

from collections.abc import Callable
from dataclasses import dataclass, field

from softpro_sandbox.documents import seed_data
from softpro_sandbox.documents.content import Content
from softpro_sandbox.record_store import RecordStore
from softpro_sandbox.records.codec import Record, encode


@dataclass
class OrderDocuments:
    """One order's documents: their versions, by id, and what is in them. `last` is the highest number given."""

    order_id: str
    store: RecordStore = field(default_factory=RecordStore)
    contents: dict[str, Content] = field(default_factory=dict)
    last_number: int = 0

    def listed(self, predicate: Callable[[bytes], bool]) -> list[bytes]:
        """The documents that readers see and that the predicate holds for, oldest change first."""
        shown = sorted(self.store.visible.items(), key=lambda item: (item[1].updated_ms, item[0]))
        return [version.body for _, version in shown if predicate(version.body)]

    def next_id(self) -> str:
        """An id that no document of the order has had."""
        self.last_number += 1
        return seed_data.document_id(self.order_id, self.last_number)

    def add(self, record: Record, content: Content, modified: int, surface_time: float) -> bytes:
        """Put a document on the shelf, for readers from `surfaces` on (milliseconds); answers its bytes."""
        new_id = str(record["documentId"])
        self.contents[new_id] = content
        [version] = self.store.put([(new_id, modified, encode(record))], [surface_time])
        return version.body

    def remove(self, document_id: str) -> bool:
        """Take a document away, for readers at once. False when there is none."""
        self.contents.pop(document_id, None)
        return self.store.delete(document_id)


@dataclass
class DocumentStore:
    """Shelves by order. Nothing is made before it is asked for: twenty thousand orders cost no time at the start."""

    organization_id: str
    by_order: dict[str, OrderDocuments] = field(default_factory=dict)

    def of_order(self, order_id: str, order: Record, *, seeded: bool) -> OrderDocuments:
        """An order's shelf; a seeded order's has documents from the start."""
        documents = self.by_order.get(order_id)
        if documents is None:
            documents = self.by_order[order_id] = OrderDocuments(order_id)
            if seeded:
                self._fill(documents, order)
        return documents

    def drop(self, order_id: str) -> None:
        """Forget the documents of an order that is gone."""
        self.by_order.pop(order_id, None)

    def _fill(self, documents: OrderDocuments, order: Record) -> None:
        rows = []
        for record, modified, content in seed_data.generate(self.organization_id, documents.order_id, order):
            documents.last_number += 1
            documents.contents[record["documentId"]] = content
            rows.append((record["documentId"], modified, encode(record)))
        documents.store.fill(rows)
