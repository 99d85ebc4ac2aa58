"""Lock resources by rows of `softpro.locks`, which only the product's logins can write.

PostgreSQL's advisory locks are open to every login of the database. Only migrations use one, because they create the
table. Sessions of an earlier release take advisory locks, so a lock of a session takes both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from hashlib import blake2b

from softpro.db import queries
from softpro.db.database import Connection


class Lock(StrEnum):
    """The resource that a lock protects; its key also has a subject, such as an id."""

    ANNOUNCEMENTS = "announcements"
    CALLS = "calls"
    INBOX = "inbox"
    OUTBOX = "outbox"
    PREVIEW = "preview"
    PUSH = "push"
    REMOTE_DELETES = "remote deletes"
    TOKEN_REFRESH = "token refresh"  # noqa: S105 - no secret
    TRANSFORM = "transform"


FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.005, 0.2
UNUSED_DAYS = 7

SELECT_IS_TAKEN = """
select exists (
    select from softpro.locks l where lock = %s and subject = '' and softpro.is_alive(l.backend_pid, l.backend_start)
) as taken
"""

INSERT = """
insert into softpro.locks (lock, subject) values (%(lock)s, %(subject)s)
on conflict (lock, subject) do update set used_at = clock_timestamp()
"""
DELETE = "delete from softpro.locks where lock = %(lock)s and subject = %(subject)s"


def key(lock: str, subject: object = "") -> int:
    """Return the 64-bit key of an advisory lock; the same in every process."""
    return int.from_bytes(blake2b(f"softpro {lock} {subject}".encode(), digest_size=8).digest(), signed=True)


MIGRATIONS_KEY = key("migrations")


def lock_in_transaction(connection: Connection, lock: Lock, subject: object) -> None:
    """Wait for the lock and hold it until the surrounding transaction ends.

    The row is deleted at once, so that nothing is left. Others still wait for the transaction that inserted it.
    """
    parameters = {"lock": lock.value, "subject": str(subject)}
    connection.execute(INSERT, parameters)
    connection.execute(DELETE, parameters)


def try_lock(connection: Connection, lock: Lock, subject: object = "") -> bool:
    """Try to take the lock for this session, until `unlock` or the session's end; return whether that succeeded.

    Call it in autocommit.
    """
    query = "select softpro.try_lock(%s, %s, %s)"
    return bool(queries.value(connection, query, [lock.value, str(subject), key(lock, subject)]))


def unlock(connection: Connection, lock: Lock, subject: object) -> None:
    """Release a lock of this session."""
    connection.execute("select softpro.unlock(%s, %s, %s)", [lock.value, str(subject), key(lock, subject)])


@contextmanager
def try_locked(connection: Connection, lock: Lock, subject: object) -> Iterator[bool]:
    """Hold the lock in this session for the block if it is free now; yield whether it is held."""
    held = try_lock(connection, lock, subject)
    try:
        yield held
    finally:
        if held:
            unlock(connection, lock, subject)


@contextmanager
def locked(connection: Connection, lock: Lock, subject: object) -> Iterator[None]:
    """Wait for the lock and hold it in this session for the block; transactions may begin and end within."""
    pause = FIRST_PAUSE_SECONDS
    while not try_lock(connection, lock, subject):
        time.sleep(pause)
        pause = min(MAX_PAUSE_SECONDS, 2 * pause)
    try:
        yield
    finally:
        unlock(connection, lock, subject)


def purge(connection: Connection) -> int:
    """Delete the locks that ended with their session some days ago, and return their number."""
    return connection.execute(
        """
        delete from softpro.locks
        where (lock, subject) in (
            select lock, subject from softpro.locks l
            where used_at < now() - make_interval(days => %s) and not softpro.is_alive(backend_pid, backend_start)
            for update skip locked)
        """,
        [UNUSED_DAYS],
    ).rowcount
