"""Start everything, connect an organization through the real OAuth flow, sync it and show the results (`make demo`)."""

from __future__ import annotations

import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from psycopg.conninfo import conninfo_to_dict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from softpro.db import integrations
from softpro.db.database import Database
from softpro.entities import EntityType
from softpro.errors import SoftProError
from softpro.settings import STATE_DIRECTORY
from softpro.timestamps import format_milliseconds
from softpro_demo import summary, webhook, write_back
from softpro_demo.api_client import ApiClient, ApiError
from softpro_demo.stack import ADMIN, LOADER, Size, Stack, StartError

ORGANIZATION = "acme-title"
SYNC_TIMEOUT_SECONDS = 300

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


class Stopped(Exception):
    """A signal asked the demo to stop."""


def main(
    exit_after_summary: Annotated[bool, typer.Option("--exit", help="Stop after the summary.")] = False,
    transactions: Annotated[int, typer.Option(min=0, help="Transactions at the sandbox.")] = 3000,
    contacts: Annotated[int, typer.Option(min=0, help="Contacts at the sandbox.")] = 1200,
    home: Annotated[Path, typer.Option(help="Directory for the demo's data, logs and password.")] = STATE_DIRECTORY,
) -> None:
    """Start PostgreSQL, a local SoftPro 360 and Airflow; connect an organization; sync it; run until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    began = time.monotonic()
    stack = Stack(
        home,
        Size(transactions, contacts),
        lambda what: console.print(f"[dim]{time.monotonic() - began:5.1f} s[/]  starting {what} …"),
        _report_earlier_data,
    )
    succeeded = False
    try:
        stack.start()
        succeeded = _show(stack)
        if not exit_after_summary:
            console.print("\nPress Ctrl-C to stop.")
            while True:
                stack.require_alive()
                time.sleep(1)
    except Stopped:
        console.print("\nStopping …")
        succeeded = succeeded and not exit_after_summary
    except (StartError, ApiError, SoftProError, OSError) as error:  # requests' errors are OSErrors
        console.print(f"[red]The demo failed:[/] {error}", soft_wrap=True)
        console.print(f"Logs: {stack.home / 'logs'}")
        succeeded = False
    finally:
        stack.stop()
    raise typer.Exit(0 if succeeded else 1)


def _show(stack: Stack) -> bool:
    """Connect, sync and show the results. Return whether all records of the sandbox arrived."""
    api = ApiClient(stack.airflow_url, stack.token())
    since = format_milliseconds(datetime.now(UTC))
    status = api.connect(ORGANIZATION)
    console.print(f"\n{ORGANIZATION} is [green]{status['status']}[/] through OAuth; syncing through Airflow:")
    outcomes = []
    columns = (TextColumn("  {task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks = {
            entity_type: (
                api.sync(status["id"], entity_type.table),
                bars.add_task(entity_type.table, total=_expected(stack, entity_type)),
            )
            for entity_type in EntityType
        }
        for entity_type, (log_id, bar) in tasks.items():

            def show(log: dict[str, Any], entity_type: EntityType = entity_type, bar: Any = bar) -> None:
                label = f"{entity_type.table} {log['status'].lower().replace('_', ' ')}"
                bars.update(bar, completed=log["recordsFetched"], description=label)

            done = api.wait(status["id"], entity_type.table, log_id, SYNC_TIMEOUT_SECONDS, show)
            log = api.totals(status["id"], entity_type.value, done, since)
            bars.update(bar, total=max(log["recordsFetched"], 1), completed=max(log["recordsFetched"], 1))
            outcomes.append(summary.count_records(stack.database, stack.sandbox["url"], ORGANIZATION, entity_type, log))
    console.print()
    summary.show(console, stack.database, ORGANIZATION, outcomes)
    arrived = not stack.size.transactions or _show_webhook(stack, api, status["id"])
    arrived = (not stack.size.contacts or _show_write_back(stack)) and arrived
    console.print(f"\nAirflow   {stack.airflow_url}   user [bold]{ADMIN}[/]   password [bold]{stack.password}[/]")
    console.print(f"Sandbox   {stack.sandbox['url']}")
    incomplete = [outcome for outcome in outcomes if not outcome.complete]
    for outcome in incomplete:
        message = outcome.log["errorMessage"] or f"{outcome.rows} of {outcome.at_vendor} arrived"
        console.print(f"[red]{outcome.entity_type.table} incomplete:[/] {message}")
    return arrived and not incomplete


def _show_webhook(stack: Stack, api: ApiClient, integration_id: str) -> bool:
    """Show how long a change at the sandbox takes to arrive by webhook. Return whether it arrived."""
    [vendor_organization] = stack.sandbox["organizationIds"]
    url = stack.sandbox["url"]
    webhook.register(api, url, integration_id, vendor_organization, stack.webhook_secret)
    try:
        seconds = webhook.measure_delay(stack.database, url, ORGANIZATION, vendor_organization)
    except TimeoutError as error:
        console.print(
            f"\n[red]{error}:[/] is the DAG softpro_webhooks paused? After unpausing it starts within minutes"
        )
        return False
    console.print(f"\nA change at SoftPro was in roi {seconds:.1f} s later, by webhook")
    return True


def _show_write_back(stack: Stack) -> bool:
    """Show how long an edit in `roi` takes to reach the sandbox, and how to try it. Return whether it arrived."""
    [vendor_organization] = stack.sandbox["organizationIds"]
    try:
        seconds = write_back.measure_delay(stack.database, stack.sandbox["url"], ORGANIZATION, vendor_organization)
    except TimeoutError as error:
        console.print(f"\n[red]{error}:[/] is the DAG softpro_write_back paused?")
        return False
    console.print(f"A change in roi was at SoftPro {seconds:.1f} s later. Try it:")
    directory = conninfo_to_dict(stack.database.conninfo)["host"]
    console.print(
        f'  psql "postgresql://{LOADER}@/softpro?host={directory}" -c "{write_back.EXAMPLE_EDIT}"',
        soft_wrap=True,
        markup=False,
    )
    return True


def _report_earlier_data(database: Database) -> None:
    """Print how many rows an earlier demo left."""
    with database.connect() as connection:
        states = [
            integrations.stream_status(connection, integration, entity_type)
            for integration in integrations.list_all(connection)
            for entity_type in EntityType
        ]
    found = [f"{state['rows']:,} {EntityType(state['entityType']).table}" for state in states if state["rows"]]
    if found:
        console.print(f"Found earlier data: {', '.join(found)}")


def _expected(stack: Stack, entity_type: EntityType) -> int:
    return {EntityType.TRANSACTION: stack.size.transactions, EntityType.CONTACT: stack.size.contacts}[entity_type]


def _stop(number: int, frame: object) -> None:
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(again, signal.SIG_IGN)  # already stopping
    raise Stopped


if __name__ == "__main__":
    typer.run(main)
    sys.exit()
