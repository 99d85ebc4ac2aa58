"""Whose turn it is to work a queue off: one session's at a time, which an advisory lock shows to whoever asks."""

from __future__ import annotations

from enum import IntEnum

from softpro.db import queries
from softpro.db.database import Connection


class Queue(IntEnum):
    """The key of the queue's lock: webhook events, or edits that are to be sent."""

    INBOX = 360_001
    OUTBOX = 360_002


SELECT_IS_TAKEN = """
select exists (
    select from pg_locks
    where locktype = 'advisory' and objsubid = 1 and classid = 0 and objid = %s
      and database = (select oid from pg_database where datname = current_database())
) as taken
"""


def try_acquire(connection: Connection, queue: Queue) -> bool:
    """Whether this session is the one that works the queue off from now on, until it ends."""
    return bool(queries.value(connection, "select pg_try_advisory_lock(%s) as taken", [queue]))
