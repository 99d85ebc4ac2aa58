"""`python -m softpro webhooks …`: the events that SoftPro sent, and what people do about them."""

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
from softpro.webhooks.events import Event, EventAttributes, EventFilter, Stats, Status

LARGEST_PAGE = 200

app = typer.Typer(
    help="The events that SoftPro sent: list, show, retry, stats, process.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EventId = Annotated[UUID, typer.Argument(metavar="EVENT", help="The event's id, as `webhooks list` prints it.")]


@app.command("list")
def list_(
    context: typer.Context,
    organization: Organization,
    status: Annotated[str | None, typer.Option(help=f"One of {', '.join(Status)}; left out: all.")] = None,
    entity: Annotated[str, typer.Option(help="transactions, contacts, documents or all.")] = "all",
    event_type: Annotated[str | None, typer.Option("--type", help="Of one type, such as ORDER_CLOSED.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=LARGEST_PAGE, help="How many.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="After so many.")] = 0,
    as_json: Json = False,
) -> None:
    """List an organization's events, newest first."""
    if status is not None and status not in set(Status):
        raise UsageError(f"--status is one of {', '.join(Status)}")
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        wanted = EventFilter(status, _about(entity), event_type)
        found, total = events.page(connection, integration.id, wanted, limit, offset)
    for event in found:
        _print(context, event, as_json)
    say(f"{len(found)} of {total}")


@app.command()
def show(context: typer.Context, organization: Organization, event: EventId, as_json: Json = False) -> None:
    """Show all of an event: what became of it, its headers, what SoftPro sent."""
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        found = events.get(connection, integration.id, event)
        shown = events.shown(connection, found).decode()
    if context.obj or as_json:
        print(shown)
        return
    whole = json.loads(shown)
    print(printable(found.line()))
    came = f"came {found.deliveries} times, first" if found.deliveries > 1 else "came"
    print(f"{came} at {whole['receivedAt']}" + (f", settled at {whole['processedAt']}" if found.processed_at else ""))
    if found.next_retry_at:
        print(f"tried again at {whole['nextRetryAt']}")
    if found.log_id:
        print(f"last in the run of log {found.log_id}")
    for each in found.decisions:
        print(f"{each['at']}  {each['decision']} by {each['by']}")
    print(f"\nHeaders:\n{printable(json.dumps(whole['headers']))}")
    print(f"\nSoftPro sent:\n{printable(json.dumps(whole['payload'], ensure_ascii=False))}")


@app.command()
def retry(
    context: typer.Context,
    organization: Organization,
    event: Annotated[
        list[UUID] | None,
        typer.Option("--event", metavar="EVENT", help="One of some events; else all that are FAILED."),
    ] = None,
    entity: Annotated[str, typer.Option(help="Of those: transactions, contacts, documents or all.")] = "all",
    as_json: Json = False,
) -> None:
    """Try events again now, from the start: those that are named, or all that are FAILED."""
    about = _about(entity)
    if event and about:
        raise UsageError("--event and --entity can't come together: the events are named already")
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        if event:
            retried = events.retry_some(connection, integration.id, event, operator())
        else:
            retried = events.retry_failed(connection, integration.id, about, operator())
    print(json.dumps({"retried": retried}) if context.obj or as_json else f"{retried} are tried again now")


@app.command()
def stats(context: typer.Context, organization: Organization, as_json: Json = False) -> None:
    """Count an organization's events, and tell how fast they are settled."""
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        found = events.stats(connection, integration.id)
    print(json.dumps(found.as_json()) if context.obj or as_json else _text(found))


@app.command()
def process(
    context: typer.Context,
    organization: Annotated[str | None, typer.Argument(metavar="[ORG]", help="One organization; else all.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="For so long at most.")] = 60,
    as_json: Json = False,
) -> None:
    """Work off the events that are due: fetch and load what they hint at."""
    from softpro.webhooks.worker import drain

    drained = drain(services(database()), run_id=f"cli__{uuid4()}", seconds=seconds, organization=organization)
    if context.obj or as_json:
        print(json.dumps(dataclasses.asdict(drained)))
    elif drained.busy:
        say("Another process works on the events now")
    else:
        print(
            f"{drained.settled} settled, {drained.left} left for later, {drained.failed} FAILED, "
            f"{drained.requests} API requests"
        )


def _about(entity: str) -> EventAttributes | None:
    known = {f"{about.lower()}s": about for about in EventAttributes}
    if entity == "all":
        return None
    if entity not in known:
        raise UsageError(f"--entity is one of {', '.join(known)}, or all")
    return known[entity]


def _print(context: typer.Context, event: Event, as_json: bool) -> None:
    print(json.dumps(event.as_json()) if context.obj or as_json else printable(event.line()))


def _text(found: Stats) -> str:
    lines = [", ".join(f"{count} {status}" for status, count in found.as_json()["byStatus"].items())]
    if found.oldest_waiting is not None:
        lines.append(f"the oldest waits for {found.oldest_waiting:.0f} s")
    if found.p50 is not None and found.p95 is not None:
        lines.append(f"settled in the last 24 h: half within {found.p50:.1f} s, 95 of 100 within {found.p95:.1f} s")
    lines.append(f"{found.repeated} deliveries were repeated")
    lines += [f"  {count:>8}  {name}" for name, count in sorted(found.by_type.items())]
    lines += [f"  {count:>8}  {day}" for day, count in found.by_day.items()]
    return "\n".join(lines)
