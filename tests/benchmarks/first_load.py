"""Measure the first load of an organization's transactions: sandbox alone, minimal load, dlt, product."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from softpro.db.database import Database
from softpro.entities import EntityType
from softpro.mapping.defaults import FIELDS

from ..support.sandbox import Sandbox
from . import measurement, postgres_server
from .baselines.dlt_settings import AS_IT_COMES, TUNED
from .measured_job import Job
from .measurement import Measured, measure, median, say
from .product_process import ORGANIZATION, PAGE, Product, connected, expect
from .targets import Target

TITLES = {"alone": "sandbox alone", "floor": "floor", "dlt": "dlt", "dlt tuned": "dlt, tuned", "product": "product"}
BASELINES = [program for program in TITLES if program != "product"]
SETUPS = {"dlt": AS_IT_COMES, "dlt tuned": TUNED}
# The columns of roi.transactions that a record fills, and their paths in the record.
COLUMNS = {
    "softpro_order_id": "orderId",
    **{column: path for path, column in FIELDS[EntityType.TRANSACTION].items()},
    "softpro_created_at": "createdAt",
    "softpro_updated_at": "updatedAt",
}


def measure_loads(
    admin: Database, sandbox: Sandbox, transactions: int, runs: int, baselines: Sequence[str]
) -> tuple[dict[str, Measured], Product]:
    """Return the median of each program, and the product of the last run. Every program runs once per run.

    Raises:
        SystemExit: A program loaded the wrong number of rows.
    """
    programs = [*baselines, "product"]
    found: dict[str, list[Measured]] = {program: [] for program in programs}
    for number in range(1, runs + 1):
        product = connected(admin, f"product_{number}", sandbox)
        for program in programs:
            if program == "product":
                measured = product.sync()
                product.expect(transactions)
            else:
                measured = _measure_baseline(program, product, transactions)
            found[program].append(measured)
            say(f"run {number} of {runs}, {TITLES[program]}: {measured.work:.2f} s")
        if number < runs:
            postgres_server.drop(admin, product.name)
    return {program: median(each) for program, each in found.items()}, product


def _measure_baseline(program: str, product: Product, transactions: int) -> Measured:
    """Measure a program of the other environment in a fresh database."""
    admin = product.admin
    job: Job = {
        "api": product.sandbox.startup_report["apiBaseUrl"],
        "token": product.token,
        "transactions": transactions,
        "page": PAGE,
    }
    if program == "alone":
        return measure(measurement.BASELINE_PYTHON, "baselines.sandbox_only", job)
    database = postgres_server.fresh(admin, "peer", migrated=program == "floor")
    job["conninfo"] = database.conninfo
    postgres_server.settle(admin)
    if program == "floor":
        measured = measure(
            measurement.BASELINE_PYTHON,
            "baselines.minimal_load",
            {**job, "organization": ORGANIZATION, "columns": COLUMNS},
        )
        expect(database, "roi.transactions", transactions, "The floor")
    else:
        setup = SETUPS[program]
        job["file_format"] = setup.file_format
        with tempfile.TemporaryDirectory() as directory:
            own = setup.environment(Path(directory))
            measured = measure(measurement.BASELINE_PYTHON, "baselines.dlt_pipeline", job, {**os.environ, **own})
        expect(database, "softpro.transactions", transactions, "dlt")
    postgres_server.drop(admin, "peer")
    return measured


def lines(loads: Mapping[str, Measured], transactions: int, runs: int) -> Iterator[str]:
    """Yield the figures as a table, and the ratios between the programs."""
    how = f"medians of {runs} runs" if runs > 1 else "one run"
    yield f"First load: {transactions:,} transactions, pages of {PAGE}, {how}, {os.cpu_count()} cores"
    yield f"  {'':16}{'work':>12}{'':>15}{'process':>15}{'':>15}{'CPU':>12}{'memory':>12}"
    for program, each in loads.items():
        work, whole = (
            f"{seconds:>10.2f} s{transactions / seconds:>10,.0f} rows/s" for seconds in (each.work, each.whole)
        )
        yield f"  {TITLES[program]:16}{work}   {whole}{each.cpu:>10.2f} s{each.memory / 1e6:>9.0f} MB"
    pages = -(-transactions // PAGE)
    yield "  pages a second: " + ", ".join(f"{TITLES[name]} {pages / each.work:.0f}" for name, each in loads.items())
    others = (
        f"{each.work / loads['product'].work:.2f} of {TITLES[name]}'s"
        for name, each in loads.items()
        if name != "product"
    )
    yield f"  the product's rows/s, work: {', '.join(others)}"
    yield "  dlt: as it comes; dlt, tuned: CSV files, two workers; work: without imports; process: from start to end"
    yield "  CPU and memory: child processes included"


def targets(loads: Mapping[str, Measured]) -> Iterator[Target]:
    """Yield the product's targets against dlt and the minimal load, without imports and for the whole process."""
    if "dlt" not in loads:
        return
    product, dlt, floor = loads["product"], loads["dlt"], loads["floor"]
    yield Target("first load, rows/s over dlt's, work", dlt.work / product.work, 3, at_least=True)
    yield Target("first load, rows/s over dlt's, process", dlt.whole / product.whole, 3, at_least=True)
    yield Target("first load, time over the floor's, work", product.work / floor.work, 2)
    yield Target("first load, time over the floor's, process", product.whole / floor.whole, 2)
