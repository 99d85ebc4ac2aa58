"""Keep one list of records: their versions, the versions visible to readers, and the sort order."""

import hashlib
import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

Key = tuple[int, str]
"""(updatedAt in milliseconds, id): the order of lists by `updatedAt`, ties by id."""

Predicate = Callable[[bytes], bool]
SortValue = Callable[[bytes], str | None]

_RESORT_ABOVE = 64
_MAX_CACHED_SELECTIONS = 8


@dataclass(frozen=True, slots=True)
class Version:
    """A record between two changes, as the JSON bytes that are served."""

    number: int
    updated_ms: int
    body: bytes

    @property
    def etag(self) -> str:
        """Return the strong ETag of these bytes, quoted."""
        return etag_of(self.body)


def etag_of(body: bytes) -> str:
    """Return a strong ETag for some bytes, quoted."""
    return f'"{hashlib.sha256(body).hexdigest()[:20]}"'


@dataclass(frozen=True)
class Order:
    """The sort order of a list.

    Attributes:
        name: the sort field; part of the cache key.
        descending: reverse the order; ties stay in ascending id order.
        value: reads the sort field from a record. None sorts by `updatedAt`, or by id for the name "id".
        ties: the order of records with one `updatedAt`, in a list sorted by it; a key of `TIES`.
    """

    name: str
    descending: bool = False
    value: SortValue | None = None
    ties: str = "ascending"


TIES: dict[str, Callable[[list[Key]], list[str]]] = {
    "ascending": lambda keys: sorted(record_id for _, record_id in keys),
    "descending": lambda keys: sorted((record_id for _, record_id in keys), reverse=True),
    # SQL Server compares the last bytes of a GUID first.
    "guid": lambda keys: sorted((record_id for _, record_id in keys), key=lambda record_id: record_id[::-1]),
}
"""Sort ids as the vendor might sort those of ties. Later sorts are stable, even when reversed."""

BY_UPDATED = Order("updatedAt")
BY_ID = Order("id")


@dataclass(frozen=True)
class Selection:
    """The records that a list call asks for, without paging.

    Attributes:
        updated_from: the lowest `updatedAt` in milliseconds, inclusive.
        name: identifies the predicate in the cache of selections.
        predicate: accepts or rejects a record's bytes; None accepts all.
        order: the sort order.
    """

    updated_from: int | None = None
    name: str = ""
    predicate: Predicate | None = None
    order: Order = BY_UPDATED


@dataclass(frozen=True)
class Page:
    """A page of records, with the size of the whole list."""

    bodies: Sequence[bytes]
    total: int


@dataclass
class RecordStore:
    """Records by id: the latest version of each, and the version that readers see until a change surfaces.

    All times are milliseconds. Call `surface_changes` with the current time before you read.

    Attributes:
        latest: the latest version by id, surfaced or not.
        visible: the version that readers see, by id.
        raw: ids of records that were posted raw; random changes leave them alone.
    """

    latest: dict[str, Version] = field(default_factory=dict)
    visible: dict[str, Version] = field(default_factory=dict)
    raw: set[str] = field(default_factory=set)
    _keys: list[Key] = field(default_factory=list)
    _pending: list[tuple[float, int, str, Version]] = field(default_factory=list)
    _count: int = 0
    _cached_selections: dict[tuple[object, ...], list[str]] = field(default_factory=dict)

    def fill(self, records: Iterable[tuple[str, int, bytes]]) -> None:
        """Load initial records (id, updatedAt, bytes), visible at once."""
        for record_id, updated_ms, body in records:
            self.latest[record_id] = self.visible[record_id] = self._version(updated_ms, body)
        self._keys = sorted((version.updated_ms, record_id) for record_id, version in self.visible.items())
        self._cached_selections.clear()

    def put(self, changes: Sequence[tuple[str, int, bytes]], surface_times: Sequence[float]) -> list[Version]:
        """Write new versions.

        Args:
            changes: (id, updatedAt, bytes) of each version.
            surface_times: the time at which each version becomes visible, in the order of `changes`.

        Returns:
            The new versions, in the order of `changes`.
        """
        written = []
        for (record_id, updated_ms, body), moment in zip(changes, surface_times, strict=True):
            version = self._version(updated_ms, body)
            self.latest[record_id] = version
            heapq.heappush(self._pending, (moment, version.number, record_id, version))
            written.append(version)
        return written

    def delete(self, record_id: str) -> bool:
        """Delete a record, at once for readers too. Return False when it does not exist."""
        if self.latest.pop(record_id, None) is None:
            return False
        self.raw.discard(record_id)
        self._pending = [entry for entry in self._pending if entry[2] != record_id]
        heapq.heapify(self._pending)
        visible = self.visible.pop(record_id, None)
        if visible is not None:
            self._keys.pop(bisect_left(self._keys, (visible.updated_ms, record_id)))
            self._cached_selections.clear()
        return True

    def surface_changes(self, now: float) -> None:
        """Make every change visible that is due at `now`. An older version never replaces a newer one."""
        surfacing: dict[str, Version] = {}
        while self._pending and self._pending[0][0] <= now:
            _, number, record_id, version = heapq.heappop(self._pending)
            before = surfacing.get(record_id) or self.visible.get(record_id)
            if before is None or before.number < number:
                surfacing[record_id] = version
        if surfacing:
            self._make_visible(surfacing)

    def page(self, selection: Selection, limit: int, offset: int) -> Page:
        """Return the visible records `offset` to `offset + limit` of a selection."""
        if selection.predicate is None and selection.order == BY_UPDATED:
            start = self._start_index(selection.updated_from)
            keys = self._keys[start + offset : start + offset + limit]
            return Page([self.visible[record_id].body for _, record_id in keys], len(self._keys) - start)
        ids = self._select_ids(selection)
        return Page([self.visible[record_id].body for record_id in ids[offset : offset + limit]], len(ids))

    def put_raw(self, record_id: str, updated_ms: int, body: bytes, surface_time: float) -> None:
        """Write a version that is served byte for byte; `regular_ids` excludes the record from now on."""
        self.raw.add(record_id)
        self.put([(record_id, updated_ms, body)], [surface_time])

    def regular_ids(self) -> list[str]:
        """Return the ids of all records that were not posted raw."""
        return [record_id for record_id in self.latest if record_id not in self.raw] if self.raw else list(self.latest)

    def latest_bodies(self) -> Iterator[bytes]:
        """Yield the latest version of every record, surfaced or not, ordered by (updatedAt, id)."""
        ordered = sorted((version.updated_ms, record_id) for record_id, version in self.latest.items())
        return (self.latest[record_id].body for _, record_id in ordered)

    def _version(self, updated_ms: int, body: bytes) -> Version:
        self._count += 1
        return Version(self._count, updated_ms, body)

    def _make_visible(self, surfacing: dict[str, Version]) -> None:
        old = [(self.visible[i].updated_ms, i) for i in surfacing if i in self.visible]
        new = [(version.updated_ms, i) for i, version in surfacing.items()]
        if len(surfacing) <= _RESORT_ABOVE:
            for key in old:
                self._keys.pop(bisect_left(self._keys, key))
            for key in new:
                insort(self._keys, key)
        else:
            # For many records, sorting once is faster than moving the list's tail once per record.
            replaced = set(old)
            self._keys = sorted([key for key in self._keys if key not in replaced] + new)
        self.visible.update(surfacing)
        self._cached_selections.clear()

    def _start_index(self, updated_from: int | None) -> int:
        return 0 if updated_from is None else bisect_left(self._keys, (updated_from, ""))

    def _select_ids(self, selection: Selection) -> list[str]:
        """Return the ids of a selection in its order, cached until a visible record changes."""
        order = selection.order
        cache_key = (selection.updated_from, selection.name, order.name, order.descending, order.ties)
        if cache_key not in self._cached_selections:
            if len(self._cached_selections) >= _MAX_CACHED_SELECTIONS:
                self._cached_selections.clear()
            self._cached_selections[cache_key] = self._sort_ids(self._matching(selection), order)
        return self._cached_selections[cache_key]

    def _matching(self, selection: Selection) -> list[Key]:
        keys = self._keys[self._start_index(selection.updated_from) :]
        if selection.predicate is None:
            return keys
        return [key for key in keys if selection.predicate(self.visible[key[1]].body)]

    def _sort_ids(self, keys: list[Key], order: Order) -> list[str]:
        """Return ids sorted by the order's value: records without a value last, ties by ascending id."""
        if order.value is None:
            if order.name == BY_ID.name:
                return sorted(record_id for _, record_id in keys)
            ids = TIES[order.ties](keys)
            ids.sort(key=lambda record_id: self.visible[record_id].updated_ms, reverse=order.descending)
            return ids
        with_value: list[tuple[str, str]] = []
        without: list[str] = []
        for record_id in sorted(key[1] for key in keys):
            value = order.value(self.visible[record_id].body)
            if value is None:
                without.append(record_id)
            else:
                with_value.append((value, record_id))
        # Python's sort is stable, even when reversed, so ids stay ascending within a tie.
        with_value.sort(key=lambda pair: pair[0], reverse=order.descending)
        return [record_id for _, record_id in with_value] + without
