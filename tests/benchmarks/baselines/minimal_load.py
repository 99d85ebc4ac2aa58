"""Load the same table with the least work a program can do: fetch, parse, copy, merge.

It has no cursor, no copy of the payload, no configurable mapping, no checks, no history and no retries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
from psycopg import sql
from psycopg.types.json import JsonbDumper, set_json_dumps

from ..measured_job import Job, run
from .transaction_pages import pages

NOTHING: dict[str, Any] = {}
INCOMING = "create temporary table incoming as select {columns} from roi.transactions with no data"
MERGE = """
insert into roi.transactions (organization_id, {columns})
select %s, {columns}
from incoming
on conflict (organization_id, softpro_order_id) do update
set {replaced}
"""


def load(job: Job) -> None:
    """Load all transactions; `columns` of the job names the dotted path of each column."""
    # Group the columns by object, so that each object of a record is looked up once.
    objects: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in job["columns"].values():
        *where, name = path.split(".")
        objects[tuple(where)].append(name)
    columns = {path: column for column, path in job["columns"].items()}
    names = [columns[".".join([*where, name])] for where, fields in objects.items() for name in fields]

    with psycopg.connect(job["conninfo"]) as connection:
        set_json_dumps(orjson.dumps, connection)
        connection.adapters.register_dumper(dict, JsonbDumper)
        connection.execute("set softpro.loading = 'on'")  # else the triggers count every row as an edit
        connection.execute(_composed(INCOMING, names))
        with connection.cursor().copy("copy incoming from stdin") as copy:
            for body in pages(job):
                for record in orjson.loads(body)["data"]:
                    copy.write_row([*_values(record, objects)])
        connection.execute(_composed(MERGE, names), [job["organization"]])


def _values(record: dict[str, Any], objects: dict[tuple[str, ...], list[str]]) -> Iterator[Any]:
    for where, fields in objects.items():
        found = record
        for step in where:
            found = found.get(step) or NOTHING
        yield from map(found.get, fields)


def _composed(query: str, names: list[str]) -> sql.Composed:
    comma = sql.SQL(", ")
    columns = [sql.Identifier(name) for name in names]
    return sql.SQL(query).format(
        columns=comma.join(columns),
        replaced=comma.join(sql.SQL("{0} = excluded.{0}").format(column) for column in columns),
    )


if __name__ == "__main__":
    run(load)
