"""Limit how often a user may start runs, counted for all API servers together."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from softpro.db import user_call_limit
from softpro.db.database import Database
from softpro.errors import TooManyCalls

from ..support.databases import execute, one


def called(database: Database, user: str, limit: int) -> bool:
    with database.connect() as connection:
        try:
            user_call_limit.count_call(connection, user, limit)
        except TooManyCalls:
            return False
    return True


def test_concurrent_calls_get_through_up_to_the_limit(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        let_in = list(pool.map(lambda _: called(database, "bob", 5), range(16)))

    assert sum(let_in) == 5
    assert called(database, "carol", 5), "others are not to blame"
    assert one(database, "select count(*) from softpro.sync_calls where user_name = 'bob'") == 5


def test_the_window_slides_and_what_lies_before_it_is_forgotten(database: Database) -> None:
    ago = "insert into softpro.sync_calls values ('bob', clock_timestamp() - make_interval(secs => %s))"
    for seconds in (61, 50, 10):
        execute(database, ago, seconds)

    with database.connect() as connection, pytest.raises(TooManyCalls) as refused:
        user_call_limit.count_call(connection, "bob", 2)

    assert (refused.value.limit, refused.value.retry_after) in ((2, 10), (2, 9))
    assert re.match("You started 2 runs within a minute", str(refused.value))
    assert called(database, "bob", 3)
    assert one(database, "select count(*) from softpro.sync_calls") == 3
