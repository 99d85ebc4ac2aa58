"""Measure how fast the product is, compared with other programs for the same task.

    make bench
    make bench ARGS='--quick'
    make bench ARGS='--only incremental --verbose'

It starts an embedded PostgreSQL and sandboxes whose rate limit does not bind, except in `webhooks`. Every measured
process is new, and every load has a new database.

first-load    the same list, in turn, by
                sandbox alone  pages fetched and discarded: what the sandbox can serve
                floor          requests, orjson, COPY to a temporary table, one merge into roi.transactions
                dlt            extract, normalize and merge by the dlt library
                product        the whole pipeline, with the default mappings and suites
loading       the load step alone, with and without the triggers that record edits of `roi`
mapping       the mapping step alone over the loaded records, by the default set and with five rules in it
no-change     a sync without changes: its requests, and its CPU beyond a process that only imports
growth        the product's first load of a larger list, by default five times as many
incremental   the buffers that one sync of a few changes touches, in a large table and in a small one
receiver      200 webhook deliveries a second to a running Airflow, in turn with an empty route of the same server
webhooks      the time from the receipt of a webhook to the row, with Airflow running as in `make demo`: a change
              every 10 s for 5 minutes, then 20 a second for 2
hostile       what other organizations and Airflow's own routes notice while one user, a viewer and strangers attack

"work" is the time without imports, "process" the time from start to end. "memory" is the peak and includes child
processes. The last table compares the figures with their targets, which are meant for the default sizes. The exit code
is 1 if a program loaded the wrong number of rows, else 0: a missed target is no failure.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

from ..support.sandbox import Sandbox, running_sandbox
from . import (
    airflow_stack,
    first_load,
    growth,
    hostile,
    incremental,
    loading,
    mapping,
    no_change,
    postgres_server,
    receiver,
    targets,
    webhooks,
)
from .measurement import say
from .product_process import loaded
from .targets import Target

PARTS = ("first-load", "mapping", "loading", "no-change", "growth", "incremental", "receiver", "webhooks", "hostile")
STACK_TRANSACTIONS = 3_000


def main() -> None:
    judged: list[Target] = []
    for lines, found in measure(_options()):
        print(*lines, "", sep="\n", flush=True)
        judged += found
    print(*targets.lines(judged), sep="\n")


def measure(wanted: argparse.Namespace) -> Iterator[tuple[Iterable[str], Iterable[Target]]]:
    """Measure part by part and yield the lines and targets of each as soon as they are known."""
    parts, changes = set(wanted.only), wanted.changes
    if parts & {"receiver", "webhooks"}:
        with airflow_stack.running(STACK_TRANSACTIONS) as running_:
            if "webhooks" in parts:
                came = webhooks.measure_webhooks(running_)
                yield webhooks.lines(came), webhooks.targets(came)
            if "receiver" in parts:
                answered = receiver.measure_receiver(running_)
                yield receiver.lines(answered), receiver.targets(answered)
    if "hostile" in parts:
        attacked = hostile.measure_hostility()
        yield hostile.lines(attacked), hostile.targets(attacked)
    if not parts - {"receiver", "webhooks", "hostile"}:
        return
    admin = postgres_server.start()
    size, times, runs = wanted.transactions, wanted.growth, wanted.runs
    if parts & {"first-load", "mapping", "loading", "no-change", "growth"}:
        with sandbox_of(size) as sandbox:
            beside = list(first_load.BASELINES) if "first-load" in parts else ["floor"] if "mapping" in parts else []
            loads, product = first_load.measure_loads(admin, sandbox, size, runs, beside)
            if "first-load" in parts:
                yield first_load.lines(loads, size, runs), first_load.targets(loads)
            if "mapping" in parts:
                mapped = mapping.measure_mapping(product, size)
                yield mapping.lines(mapped, size), mapping.targets(mapped, loads["floor"])
            if "no-change" in parts:
                quiet = no_change.measure_quiet(product)
                yield no_change.lines(quiet), no_change.targets(quiet)
            if "loading" in parts:  # last, because it changes the mappings
                written = loading.measure_loading(product, size)
                yield loading.lines(written, size), loading.targets(written)
        postgres_server.drop(admin, product.name)
    if parts & {"growth", "incremental"}:
        with sandbox_of(size * times) as sandbox:
            grown, product = loaded(admin, "large", sandbox, size * times)
            if "growth" in parts:
                base = loads["product"]
                yield growth.lines(base, grown, size, times), growth.targets(base, grown, size, times)
            if "incremental" in parts:
                large = incremental.measure_changes(product, size * times, changes)
        postgres_server.drop(admin, product.name)
    if "incremental" in parts:
        with sandbox_of(wanted.small) as sandbox:
            _, product = loaded(admin, "small", sandbox, wanted.small)
            small = incremental.measure_changes(product, wanted.small, changes)
        yield incremental.lines(small, large, changes, verbose=wanted.verbose), incremental.targets(small, large)


def sandbox_of(transactions: int) -> AbstractContextManager[Sandbox]:
    """Start a sandbox with one organization and this many transactions."""
    say(f"a sandbox with {transactions:,} transactions")
    return running_sandbox(organizations=1, transactions=transactions, contacts=400)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transactions", type=int, default=200_000, help="records of the first load (%(default)s)")
    parser.add_argument("--runs", type=int, default=1, help="first loads, of which the median counts (%(default)s)")
    parser.add_argument("--growth", type=int, default=5, help="times as many in the large table (%(default)s)")
    parser.add_argument("--small", type=int, default=10_000, help="records of the small table (%(default)s)")
    parser.add_argument("--changes", type=int, default=100, help="records that change (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--verbose", action="store_true", help="the statements that touch most buffers")
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.transactions //= 10
        wanted.small //= 10
    return wanted


if __name__ == "__main__":
    main()
