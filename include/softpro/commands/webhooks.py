"""List, retry and process webhook events: `python -m softpro webhooks …`."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated
from uuid import UUID, uuid4

import typer

from softpro.commands.common import Json, Organization, database, operator, printable, say
from softpro.db import integrations
from softpro.errors import UsageError
from softpro.services import services
from softpro.webhooks import events
from softpro.webhooks.events import Event, EventEntityType, EventFilter, EventStatus, Stats

MAX_PAGE_SIZE = 200

app = typer.Typer(
    help="Manage the events that SoftPro sent.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EventId = Annotated[UUID, typer.Argument(metavar="EVENT", help="The event's id, as `webhooks list` prints it.")]


@app.command("list")
def list_(
    context: typer.Context,
    organization: Organization,
    status: Annotated[str | None, typer.Option(help=f"One of {', '.join(EventStatus)}. Default: all.")] = None,
    entity: Annotated[str, typer.Option(help="transactions, contacts, documents or all.")] = "all",
    event_type: Annotated[
        str | None, typer.Option("--type", help="Only this event type, such as ORDER_CLOSED.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE_SIZE, help="Number of entries to print.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Number of entries to skip.")] = 0,
    as_json: Json = False,
) -> None:
    """List an organization's events, newest first."""
    if status is not None and status not in set(EventStatus):
        raise UsageError(f"--status must be one of {', '.join(EventStatus)}")
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        wanted = EventFilter(status, _parse_entity_type(entity), event_type)
        found, total = events.page(connection, integration.id, wanted, limit, offset)
    for event in found:
        _print(context, event, as_json)
    say(f"{len(found)} of {total}")


@app.command()
def show(context: typer.Context, organization: Organization, event: EventId, as_json: Json = False) -> None:
    """Show an event with all details.

    Prints its outcome, its headers, and SoftPro's payload.
    """
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        found = events.get(connection, integration.id, event)
        shown = events.full_json(connection, found).decode()
    if context.obj or as_json:
        print(shown)
        return
    content = json.loads(shown)
    print(printable(found.line()))
    received = f"received {found.deliveries} times, first" if found.deliveries > 1 else "received"
    print(
        f"{received} at {content['receivedAt']}"
        + (f", settled at {content['processedAt']}" if found.processed_at else "")
    )
    if found.next_retry_at:
        print(f"retried at {content['nextRetryAt']}")
    if found.log_id:
        print(f"log of the last run {found.log_id}")
    for each in found.decisions:
        print(f"{each['at']}  {each['decision']} by {each['by']}")
    print(f"\nHeaders:\n{printable(json.dumps(content['headers']))}")
    print(f"\nSoftPro sent:\n{printable(json.dumps(content['payload'], ensure_ascii=False))}")


@app.command()
def retry(
    context: typer.Context,
    organization: Organization,
    event: Annotated[
        list[UUID] | None,
        typer.Option("--event", metavar="EVENT", help="An event to retry. Repeatable. Default: all FAILED events."),
    ] = None,
    entity: Annotated[
        str, typer.Option(help="Retry FAILED events of transactions, contacts, documents or all.")
    ] = "all",
    as_json: Json = False,
) -> None:
    """Retry events now.

    Retries the named events, or all FAILED events, with all attempts again.
    """
    about = _parse_entity_type(entity)
    if event and about:
        raise UsageError("Give --event or --entity, not both")
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        if event:
            retried = events.retry_some(connection, integration.id, event, operator())
        else:
            retried = events.retry_failed(connection, integration.id, about, operator())
    print(json.dumps({"retried": retried}) if context.obj or as_json else f"{retried} events are retried now")


@app.command()
def stats(context: typer.Context, organization: Organization, as_json: Json = False) -> None:
    """Print counts of events and settling times."""
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        found = events.stats(connection, integration.id)
    print(json.dumps(found.as_json()) if context.obj or as_json else _stats_text(found))


@app.command()
def process(
    context: typer.Context,
    organization: Annotated[str | None, typer.Argument(metavar="[ORG]", help="One organization. Default: all.")] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="Maximum duration in seconds; work in progress is finished.")
    ] = 60,
    as_json: Json = False,
) -> None:
    """Process the due events.

    Fetches and loads the records that they name.
    """
    from softpro.webhooks.worker import drain

    drained = drain(services(database()), run_id=f"cli__{uuid4()}", seconds=seconds, organization=organization)
    if context.obj or as_json:
        print(json.dumps(dataclasses.asdict(drained)))
    elif drained.busy:
        say("Another process is already processing events; nothing was done")
    else:
        print(
            f"{drained.settled} settled, {drained.left} left for later, {drained.failed} FAILED, "
            f"{drained.requests} API requests"
        )


def _parse_entity_type(entity: str) -> EventEntityType | None:
    known = {f"{about.lower()}s": about for about in EventEntityType}
    if entity == "all":
        return None
    if entity not in known:
        raise UsageError(f"--entity must be one of {', '.join(known)}, or all")
    return known[entity]


def _print(context: typer.Context, event: Event, as_json: bool) -> None:
    print(json.dumps(event.as_json()) if context.obj or as_json else printable(event.line()))


def _stats_text(found: Stats) -> str:
    lines = [", ".join(f"{count} {status}" for status, count in found.as_json()["byStatus"].items())]
    if found.oldest_waiting is not None:
        lines.append(f"the oldest event waits for {found.oldest_waiting:.0f} s")
    if found.p50 is not None and found.p95 is not None:
        lines.append(f"settled in the last 24 h: half within {found.p50:.1f} s, 95 of 100 within {found.p95:.1f} s")
    lines.append(f"{found.repeated} deliveries were repeated")
    if refused := found.refused.signatures + found.refused.timestamps:
        lines.append(
            f"{refused} deliveries were refused in the last 24 h: {found.refused.signatures} by their signature, "
            f"{found.refused.timestamps} by their timestamp"
        )
    lines += [f"  {count:>8}  {name}" for name, count in sorted(found.by_type.items())]
    lines += [f"  {count:>8}  {day}" for day, count in found.by_day.items()]
    return "\n".join(lines)
