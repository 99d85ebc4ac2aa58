"""Take PostgreSQL's advisory locks: one scheme of keys for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from hashlib import blake2b

from softpro.db import queries
from softpro.db.database import Connection


class Lock(StrEnum):
    """The resource that a lock protects; its key also depends on a subject, such as an id."""

    ANNOUNCEMENTS = "announcements"
    CALLS = "calls"
    INBOX = "inbox"
    MIGRATIONS = "migrations"
    OUTBOX = "outbox"
    PREVIEW = "preview"
    PUSH = "push"
    REMOTE_DELETES = "remote deletes"
    TOKEN_REFRESH = "token refresh"  # noqa: S105 - no secret
    TRANSFORM = "transform"


SELECT_IS_TAKEN = """
select exists (
    select from pg_locks
    where locktype = 'advisory' and objsubid = 1 and ((classid::bigint << 32) | objid::bigint) = %s
      and database = (select oid from pg_database where datname = current_database())
) as taken
"""


def key(lock: Lock, subject: object = "") -> int:
    """Return the 64-bit key of a lock; the same in every process."""
    return int.from_bytes(blake2b(f"softpro {lock} {subject}".encode(), digest_size=8).digest(), signed=True)


def lock_in_transaction(connection: Connection, lock: Lock, subject: object) -> None:
    """Wait for the lock and hold it until the surrounding transaction ends."""
    connection.execute("select pg_advisory_xact_lock(%s)", [key(lock, subject)])


def try_lock(connection: Connection, lock: Lock, subject: object = "") -> bool:
    """Try to take the lock for this session, until `unlock` or the session's end; return whether that succeeded."""
    return bool(queries.value(connection, "select pg_try_advisory_lock(%s)", [key(lock, subject)]))


def unlock(connection: Connection, lock: Lock, subject: object) -> None:
    """Release a lock of this session."""
    connection.execute("select pg_advisory_unlock(%s)", [key(lock, subject)])


@contextmanager
def locked(connection: Connection, lock: Lock, subject: object) -> Iterator[None]:
    """Wait for the lock and hold it in this session for the block; transactions may begin and end within."""
    connection.execute("select pg_advisory_lock(%s)", [key(lock, subject)])
    try:
        yield
    finally:
        unlock(connection, lock, subject)
