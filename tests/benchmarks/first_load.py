"""How fast is a first load, beside the least that any program would have to do?

    python tests/benchmarks/first_load.py --transactions 20000

Starts an embedded PostgreSQL and a sandbox whose rate limit does not bind, then measures in turn, each in a fresh
process and (the load) a fresh database:

* alone    every list page fetched and thrown away: what the sandbox alone can serve
* floor    every page fetched and parsed, the mapped columns' texts copied to a temporary table, one merge (A)
* product  the first load through the whole pipeline (B)
* again    the product once more, with nothing changed (C)

Medians of all runs are printed: rows per second, the product's time as a multiple of the floor's, peak memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import requests
from psycopg import sql
from psycopg.conninfo import make_conninfo

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.databases import lasting_directory, one
from tests.support.vendor import Sandbox, running

from softpro.entities import EntityType, Mode, SyncType
from softpro.mapping.columns import COLUMNS, Type
from softpro.mapping.defaults import FIELDS
from softpro.store import embedded
from softpro.store.database import Database
from softpro.store.migrations import migrate

ORGANIZATION = "acme"
PAGE = 200  # records, the most that the vendor's lists give
ENTITY = EntityType.TRANSACTION
# The columns of roi.transactions: where each is in a record, and its type there.
PATHS = {
    "softpro_order_id": "orderId",
    **{column: path for path, column in FIELDS[ENTITY].items()},
    "softpro_created_at": "createdAt",
    "softpro_updated_at": "updatedAt",
}
STEPS = [path.split(".") for path in PATHS.values()]
CASTS = {
    Type.TEXT: "text",
    Type.MONEY: "numeric(14, 2)",
    Type.NUMBER: "numeric",
    Type.TIMESTAMP: "timestamptz",
    Type.JSON: "jsonb",
}
TYPES = {**COLUMNS[ENTITY], "softpro_created_at": Type.TIMESTAMP, "softpro_updated_at": Type.TIMESTAMP}
MERGE = """
insert into roi.transactions (organization_id, {columns})
select %s, {typed}
from incoming
on conflict (organization_id, softpro_order_id) do update
set {replaced}
"""


@dataclass(frozen=True)
class Measured:
    """One process: seconds of its work after its imports, seconds from its start to its end, peak memory in MiB."""

    work: float
    whole: float
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transactions", type=int, default=20_000, help="records to load (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs, of which the median counts (%(default)s)")
    parser.add_argument("--measure", choices=WORK, help=argparse.SUPPRESS)  # a process that is measured
    wanted = parser.parse_args()
    if wanted.measure:
        print(json.dumps({"work": WORK[wanted.measure](), "memory": peak_memory()}))
    else:
        print("\n".join(report(measure(wanted.transactions, wanted.runs), wanted.transactions)))


def measure(transactions: int, runs: int) -> dict[str, list[Measured]]:
    """Measures each kind of work this many times, in turn."""
    admin = embedded.start(lasting_directory() / "data", "admin")
    found: dict[str, list[Measured]] = {name: [] for name in ("alone", "floor", "product", "again")}
    with running(organizations=1, transactions=transactions, contacts=400) as sandbox:
        for number, works in itertools.product(range(runs), (("alone", "floor"), ("product", "again"))):
            database = fresh(admin, f"{works[-1]}_{number}")
            settings = connected(database, sandbox, transactions)
            for work in works:
                found[work].append(measured(work, settings))
                print(f"run {number + 1} of {runs}, {work}: {found[work][-1].work:.2f} s", file=sys.stderr)
            loaded = one(database, "select count(*) from roi.transactions")
            if loaded != transactions:
                raise SystemExit(f"{' and '.join(works)} loaded {loaded} of {transactions} transactions")
    return found


def fresh(admin: Database, name: str) -> Database:
    """A new, migrated database of this server."""
    with admin.connect() as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    database = Database(make_conninfo(admin.conninfo, dbname=name))
    migrate(database)
    return database


def connected(database: Database, sandbox: Sandbox, transactions: int) -> dict[str, str]:
    """The environment of the measured processes: a product connected to the sandbox's first organization."""
    from tests.support.product import begin_connection, environment, finish_connection, services_in

    from softpro.vendor import oauth

    settings = environment(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE=str(PAGE))
    services = services_in(settings, database)
    address = sandbox.consent(begin_connection(services, ORGANIZATION), sandbox.organizations[0])
    integration = finish_connection(services, address)
    token = oauth.token_source(database, services.vault, services.oauth, integration.id)(None)
    return {**settings, "BENCHMARK_TOKEN": token, "BENCHMARK_TRANSACTIONS": str(transactions)}


def measured(work: str, settings: Mapping[str, str]) -> Measured:
    """Does the work in a fresh process and measures it."""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, __file__, "--measure", work], env=dict(settings), stdout=subprocess.PIPE, check=True
    )
    whole = time.monotonic() - began
    told = json.loads(ended.stdout)
    return Measured(told["work"], whole, told["memory"])


def report(found: Mapping[str, list[Measured]], transactions: int) -> Iterator[str]:
    """The medians as lines of a table, and what they come to."""
    middle = {name: _median(each) for name, each in found.items()}
    floor, product = middle["floor"], middle["product"]
    pages = -(-transactions // PAGE)
    yield f"{transactions} transactions, pages of {PAGE}, medians of {len(found['floor'])}, {os.cpu_count()} cores"
    yield ""
    yield f"{'':24}{'work':>12}{'':>16}{'process':>12}{'':>16}{'memory':>12}"
    for name, title in TITLES.items():
        each = middle[name]
        work, whole = (
            f"{seconds:>10.2f} s{transactions / seconds:>9,.0f} rows/s" for seconds in (each.work, each.whole)
        )
        yield f"{title:24}{work}{whole}{each.memory:>8.0f} MiB"
    yield ""
    yield "work: without imports; process: from start to end, imports included; memory: the process's peak"
    yield f"B/A: the product takes {product.work / floor.work:.2f} times as long as the floor, without imports"
    yield f"     and {product.whole / floor.whole:.2f} times as long as a process"
    yield f"Pages a second: the sandbox alone serves {pages / middle['alone'].work:.0f},"
    yield f"     the floor took {pages / floor.work:.0f}, the product {pages / product.work:.0f}"


def _median(each: list[Measured]) -> Measured:
    return Measured(*(statistics.median(values) for values in zip(*map(astuple, each), strict=True)))


def do_alone() -> float:
    """Fetches every page. Returns seconds, as all of these do."""
    began = time.monotonic()
    for _ in _pages():
        pass
    return time.monotonic() - began


def do_floor() -> float:
    """Fetches, parses, copies, merges: no cursor, no raw copy, no checks, no history, no second try."""
    began = time.monotonic()
    with psycopg.connect(os.environ["SOFTPRO_DATABASE_URL"]) as connection:
        connection.execute(_composed("create temporary table incoming ({texts})"))
        with connection.cursor().copy("copy incoming from stdin") as copy:
            for body in _pages():
                for record in msgspec.json.decode(body)["data"]:
                    copy.write_row([_text(record, steps) for steps in STEPS])
        connection.execute(_composed(MERGE), [ORGANIZATION])
    return time.monotonic() - began


def do_product() -> float:
    """One sync of the transactions, with what it would import on its way imported before."""
    import great_expectations  # noqa: F401

    return do_again()


def do_again() -> float:
    """One sync of the transactions; where nothing changed it never imports Great Expectations."""
    from softpro import pipeline
    from softpro.services import services
    from softpro.settings import DatabaseSettings, load
    from softpro.store import integrations
    from softpro.store.database import open_database

    began = time.monotonic()
    made = services(open_database(*load(DatabaseSettings)))
    with made.database.connect() as connection:
        integration = integrations.find(connection, ORGANIZATION)
    log = pipeline.sync(
        made, integration, ENTITY, mode=Mode.INCREMENTAL, sync_type=SyncType.MANUAL, run_id=f"benchmark__{uuid4()}"
    )
    if not log.succeeded:
        raise SystemExit(log.error_message)
    return time.monotonic() - began


WORK: dict[str, Callable[[], float]] = {
    "alone": do_alone,
    "floor": do_floor,
    "product": do_product,
    "again": do_again,
}
TITLES = {
    "alone": "  sandbox alone",
    "floor": "A floor",
    "product": "B product, first load",
    "again": "C product, no change",
}


def _pages() -> Iterator[bytes]:
    """The bodies of all pages of the list, by plain offsets: nothing changes meanwhile."""
    address = f"{os.environ['SOFTPRO_SANDBOX_BASE_URL']}/transactions"
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {os.environ['BENCHMARK_TOKEN']}"
        for offset in range(0, int(os.environ["BENCHMARK_TRANSACTIONS"]), PAGE):
            parameters: dict[str, str | int] = {
                "limit": PAGE,
                "offset": offset,
                "sortBy": "updatedAt",
                "sortOrder": "asc",
            }
            answer = session.get(address, params=parameters, timeout=30)
            answer.raise_for_status()
            yield answer.content


def _text(record: Any, steps: list[str]) -> str | None:
    for step in steps:
        record = record.get(step) if record else None
    if record is None or isinstance(record, str):
        return record
    return msgspec.json.encode(record).decode()


def _composed(query: str) -> sql.Composed:
    names = [sql.Identifier(column) for column in PATHS]
    kinds = [CASTS[TYPES.get(column, Type.TEXT)] for column in PATHS]
    comma = sql.SQL(", ")
    return sql.SQL(query).format(
        columns=comma.join(names),
        texts=comma.join(sql.SQL("{} text").format(name) for name in names),
        typed=comma.join(
            sql.SQL("{}::{}").format(name, sql.SQL(kind)) for name, kind in zip(names, kinds, strict=True)
        ),
        replaced=comma.join(sql.SQL("{0} = excluded.{0}").format(name) for name in names),
    )


def peak_memory() -> float:
    """The most memory this process ever held, in MiB.

    On Linux getrusage counts in KiB, and also what the parent held when it started this process; /proc does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
