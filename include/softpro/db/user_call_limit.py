"""Limit how often each user requests runs, counted in PostgreSQL for all API servers together."""

from __future__ import annotations

import math

from softpro.db import locks, queries
from softpro.db.database import Connection
from softpro.db.locks import Lock
from softpro.errors import TooManyCalls

WINDOW_SECONDS = 60


def count_call(connection: Connection, user: str, limit: int) -> None:
    """Count a call if the user made fewer than `limit` in the last 60 s. Raises TooManyCalls, without counting it."""
    parameters = {"user": user, "seconds": WINDOW_SECONDS}
    with connection.transaction():
        locks.lock_in_transaction(connection, Lock.CALLS, user)
        connection.execute(
            """
            delete from softpro.sync_calls
            where user_name = %(user)s and called_at <= clock_timestamp() - make_interval(secs => %(seconds)s)
            """,
            parameters,
        )
        row = queries.one(
            connection,
            """
            select count(*) as calls,
                   extract(epoch from min(called_at) - clock_timestamp())::float8 + %(seconds)s as free_in
            from softpro.sync_calls
            where user_name = %(user)s
            """,
            parameters,
        )
        if row["calls"] >= limit:
            raise TooManyCalls(limit, max(1, math.ceil(row["free_in"])))
        connection.execute("insert into softpro.sync_calls (user_name) values (%(user)s)", parameters)
