"""An organization's documents: a shelf for each order that somebody has asked about."""

from collections.abc import Callable
from dataclasses import dataclass, field

from softpro_sandbox.documents import seed_data
from softpro_sandbox.documents.content import Content
from softpro_sandbox.record_store import Catalogue
from softpro_sandbox.records.codec import Record, encode


@dataclass
class Shelf:
    """One order's documents: their versions, by id, and what is in them. `last` is the highest number given."""

    order_id: str
    catalogue: Catalogue = field(default_factory=Catalogue)
    contents: dict[str, Content] = field(default_factory=dict)
    last: int = 0

    def listed(self, predicate: Callable[[bytes], bool]) -> list[bytes]:
        """The documents that readers see and that the predicate holds for, oldest change first."""
        shown = sorted(self.catalogue.shown.items(), key=lambda item: (item[1].updated_ms, item[0]))
        return [version.body for _, version in shown if predicate(version.body)]

    def next_id(self) -> str:
        """An id that no document of the order has had."""
        self.last += 1
        return seed_data.document_id(self.order_id, self.last)

    def add(self, record: Record, content: Content, modified: int, surfaces: float) -> bytes:
        """Put a document on the shelf, for readers from `surfaces` on (milliseconds); answers its bytes."""
        new_id = str(record["documentId"])
        self.contents[new_id] = content
        [version] = self.catalogue.put([(new_id, modified, encode(record))], [surfaces])
        return version.body

    def remove(self, document_id: str) -> bool:
        """Take a document away, for readers at once. False when there is none."""
        self.contents.pop(document_id, None)
        return self.catalogue.delete(document_id)


@dataclass
class Shelves:
    """Shelves by order. Nothing is made before it is asked for: twenty thousand orders cost no time at the start."""

    organization_id: str
    shelves: dict[str, Shelf] = field(default_factory=dict)

    def of(self, order_id: str, order: Record, *, seeded: bool) -> Shelf:
        """An order's shelf; a seeded order's has documents from the start."""
        shelf = self.shelves.get(order_id)
        if shelf is None:
            shelf = self.shelves[order_id] = Shelf(order_id)
            if seeded:
                self._fill(shelf, order)
        return shelf

    def drop(self, order_id: str) -> None:
        """Forget the documents of an order that is gone."""
        self.shelves.pop(order_id, None)

    def _fill(self, shelf: Shelf, order: Record) -> None:
        rows = []
        for record, modified, content in seed_data.generate(self.organization_id, shelf.order_id, order):
            shelf.last += 1
            shelf.contents[record["documentId"]] = content
            rows.append((record["documentId"], modified, encode(record)))
        shelf.catalogue.fill(rows)
