"""How often each person asks for runs, counted in PostgreSQL for all API servers together."""

from __future__ import annotations

import math

from softpro.db import queries
from softpro.db.database import Connection
from softpro.errors import TooManyCalls

WINDOW_SECONDS = 60
LOCK_COUNTER = 360_002
"""Of a transaction's advisory lock, with the person's name: their calls are counted one by one."""


def count_call(connection: Connection, user: str, limit: int) -> None:
    """Counts a call, where there were fewer than `limit` of them in the last 60 s. Raises TooManyCalls, uncounted."""
    parameters = {"user": user, "seconds": WINDOW_SECONDS, "lock": LOCK_COUNTER}
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%(lock)s, hashtext(%(user)s))", parameters)
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
