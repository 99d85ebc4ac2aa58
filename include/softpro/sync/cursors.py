"""Read and write the stored cursor of each stream: where its next run starts, and what is left to load."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import Mode, Stream
from softpro.softpro360.records import Key
from softpro.sync.paging import Position


@dataclass(frozen=True)
class Cursor:
    """The stored cursor of a stream.

    Attributes:
        position: where the next request starts.
        sweep: a delta or full sweep that has not reached the end of the list, if any.
        backlog: more records are left to fetch.
        visible_until: set while a sweep by offset is in progress (see `sweep.py`), otherwise None.
        sweep_total: the length of the list when a full sweep began; kept until all its records are loaded.
    """

    position: Position
    sweep: Mode | None
    backlog: bool
    visible_until: datetime | None = None
    sweep_total: int | None = None


def read(connection: Connection, run: Run) -> Cursor:
    """Return the stream's cursor; a new one starts before the first record."""
    row = connection.execute(
        """
        select updated_from, page_offset, last_updated_at, last_id, sweep_mode, backlog, sweep_visible_until,
               sweep_total
        from softpro.cursors
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
        """,
        run.stream.parameters,
    ).fetchone()
    if row is None:
        return Cursor(Position(), None, False)
    last = Key(row["last_updated_at"], row["last_id"]) if row["last_id"] else None
    sweep = Mode(row["sweep_mode"]) if row["sweep_mode"] else None
    position = Position(row["updated_from"], row["page_offset"], last)
    return Cursor(position, sweep, row["backlog"], row["sweep_visible_until"], row["sweep_total"])


def write(connection: Connection, run: Run, cursor: Cursor) -> None:
    """Store the cursor, in the transaction that lands the records it has passed."""
    position = cursor.position
    connection.execute(
        """
        insert into softpro.cursors
            (integration_id, entity_type, organization_id,
             updated_from, page_offset, last_updated_at, last_id, sweep_mode, backlog, sweep_visible_until,
             sweep_total)
        values (%(integration_id)s, %(entity_type)s, %(organization_id)s,
                %(updated_from)s, %(offset)s, %(last_at)s, %(last_id)s, %(sweep)s, %(backlog)s, %(visible_until)s,
                %(sweep_total)s)
        on conflict (integration_id, entity_type) do update
        set updated_from = excluded.updated_from, page_offset = excluded.page_offset,
            last_updated_at = excluded.last_updated_at, last_id = excluded.last_id,
            sweep_mode = excluded.sweep_mode, backlog = excluded.backlog,
            sweep_visible_until = excluded.sweep_visible_until, sweep_total = excluded.sweep_total,
            updated_at = now()
        where (cursors.updated_from, cursors.page_offset, cursors.last_updated_at, cursors.last_id,
               cursors.sweep_mode, cursors.backlog, cursors.sweep_visible_until, cursors.sweep_total)
            is distinct from (excluded.updated_from, excluded.page_offset, excluded.last_updated_at, excluded.last_id,
                              excluded.sweep_mode, excluded.backlog, excluded.sweep_visible_until,
                              excluded.sweep_total)
        """,
        {
            **run.stream.parameters,
            "updated_from": position.updated_from,
            "offset": position.offset,
            "last_at": position.last.updated_at if position.last else None,
            "last_id": position.last.id if position.last else None,
            "sweep": cursor.sweep.value if cursor.sweep else None,
            "backlog": cursor.backlog,
            "visible_until": cursor.visible_until,
            "sweep_total": cursor.sweep_total,
        },
    )


def mark_load_due(connection: Connection, stream: Stream, seconds: float = 0.0) -> None:
    """Mark the stream's landed records as due to be loaded, by any run.

    Call it in the transaction that lands the records, or in the one that begins the run.

    Args:
        connection: the connection of that transaction.
        stream: the stream.
        seconds: the time until they are due. Default: 0.
    """
    connection.execute(
        """
        insert into softpro.cursors (integration_id, entity_type, organization_id, load_due_at)
        values (%(integration_id)s, %(entity_type)s, %(organization_id)s,
                clock_timestamp() + make_interval(secs => %(seconds)s::float8))
        on conflict (integration_id, entity_type) do update set load_due_at = excluded.load_due_at
        """,
        {**stream.parameters, "seconds": seconds},
    )


def mark_slow_rules(connection: Connection, stream: Stream) -> None:
    """Mark that the stream's mapping rules used up their time, or that one was stopped."""
    connection.execute(
        """
        update softpro.cursors set slow_rules_at = clock_timestamp()
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
        """,
        stream.parameters,
    )


def clear_load_due(connection: Connection, stream: Stream) -> bool:
    """Clear the stream's mark of a due load if nothing is pending, and return whether a mark was cleared.

    Call it in the transaction that loads.
    """
    return bool(
        connection.execute(
            """
            update softpro.cursors
            set load_due_at = null
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s and load_due_at is not null
              and not exists (
                  select from raw.pending
                  where integration_id = %(integration_id)s and entity_type = %(entity_type)s)
            """,
            stream.parameters,
        ).rowcount
    )


def never_synced(connection: Connection, run: Run) -> bool:
    """Return whether no run over the stream has reached the end of its list yet."""
    return not connection.execute(
        """
        select from softpro.cursors
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and last_synced_at is not null
        """,
        run.stream.parameters,
    ).rowcount


def start_cursor(cursor: Cursor, mode: Mode) -> Cursor:
    """Return where a run of this mode starts.

    A run continues an unfinished sweep, unless its mode covers more than that sweep does.
    """
    if mode is Mode.INCREMENTAL or cursor.sweep is mode or cursor.sweep is Mode.FULL:
        return cursor
    return Cursor(Position(), mode, True)


def run_reason(cursor: Cursor, mode: Mode) -> str:
    """Return why a run of this mode starts where it does, for its log."""
    if mode is Mode.REMAP:
        return "maps every stored record again"
    if mode is Mode.REPLAY:
        return "maps the quarantined records again"
    if mode is Mode.RECORDS:
        return "fetches the named records"
    if mode is Mode.PUSH:
        return "sends local edits"
    if cursor.sweep and (mode in (Mode.INCREMENTAL, cursor.sweep) or cursor.sweep is Mode.FULL):
        return f"continues the {cursor.sweep} sweep that an earlier run began"
    if mode is not Mode.INCREMENTAL:
        return f"a {mode} sync was requested"
    if cursor.position == Position():
        return "first load"
    return "continues where the last run stopped" if cursor.backlog else "fetches changes since the last sync"
