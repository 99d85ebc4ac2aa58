"""The command line: `python -m softpro …`. Needs no Airflow. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, urlsplit

import typer

from softpro import settings
from softpro.commands import access, conflicts, coverage, holds, mappings, push, quarantine, webhooks
from softpro.commands.common import Json, Organization, database, entity_types, operator, say
from softpro.commands.progress import rotation_bar
from softpro.commands.runner import EXIT_FAILED, EXIT_WRONG_USE, RunOutcome, outcome_of, run_streams
from softpro.connections import oauth_flow
from softpro.db import integrations
from softpro.db.database import open_database
from softpro.delete_limit import DeleteLimit
from softpro.entities import LISTING, EntityType, Mode, SyncType
from softpro.errors import MappingError, SettingsError, SoftProError, UsageError
from softpro.runs import reconcile as runs_reconcile
from softpro.runs import sync as runs_sync
from softpro.services import SETTINGS as SERVICES
from softpro.services import services

if TYPE_CHECKING:
    from softpro.connections.key_rotation import Rotation
    from softpro.db.integrations import Integration
    from softpro.runs.pipeline import Stage
    from softpro.sync.extract import Progress

app = typer.Typer(
    help="Keeps an organization's SoftPro 360 data and its ROI Systems tables in step.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(push.push)
app.add_typer(conflicts.app, name="conflicts")
app.add_typer(mappings.app, name="mappings")
app.add_typer(quarantine.app, name="quarantine")
app.command()(coverage.coverage)
app.add_typer(holds.app, name="holds")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(access.app, name="access")


@app.callback()
def options(context: typer.Context, as_json: Json = False) -> None:
    context.obj = as_json


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date."""
    from softpro.db.migrations import migrate as run

    ran = run(database())
    typer.echo(f"ran {', '.join(ran)}" if ran else "up to date")


@app.command()
def connect(
    organization: Organization,
    client_id: Annotated[str | None, typer.Option(help="OAuth client id; else SOFTPRO_CLIENT_ID.")] = None,
    client_secret_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A file that holds the secret; else SOFTPRO_CLIENT_SECRET."),
    ] = None,
    environment: Annotated[
        str | None, typer.Option(help="SANDBOX (of a new connection) or PRODUCTION; left out: as it is.")
    ] = None,
) -> None:
    """Begin a connection: prints the address to open in a browser, alone on one line."""
    if environment not in (None, "SANDBOX", "PRODUCTION"):
        raise UsageError("--environment is SANDBOX or PRODUCTION")
    if (client_id is None) != (client_secret_file is None):
        raise UsageError("--client-id and --client-secret-file come together")
    if client_id is None or client_secret_file is None:
        settings.load(settings.CredentialSettings, *SERVICES)  # so that all is named at once
        client_secret = None
    else:
        try:
            client_secret = client_secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"--client-secret-file {client_secret_file} can't be read as text") from None
    url = oauth_flow.connect(
        services(database()),
        organization,
        client_id=client_id,
        client_secret=client_secret,
        environment=environment,
    )
    print(url)


@app.command()
def callback(
    address: Annotated[str, typer.Argument(metavar="URL", help="The address the browser was sent to.")],
) -> None:
    """Finish a connection with the address the browser was sent to."""
    try:
        answer = dict(parse_qsl(urlsplit(address).query))
    except ValueError:
        raise UsageError("URL is the whole address that the browser was sent to") from None
    integration = oauth_flow.callback(services(database()), answer)
    print(f"{integration.organization_id} is connected to SoftPro's {integration.softpro_organization_id}")


@app.command()
def sync(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    mode: Annotated[
        str,
        typer.Option(help="incremental: what changed. delta: all, loads what differs. full: all again."),
    ] = Mode.INCREMENTAL.value,
    record: Annotated[
        list[str] | None, typer.Option(help="An id at SoftPro, of one --entity: it alone. Can be given again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch, map, check and load, to the end of the list; or some records alone."""
    if mode not in LISTING:
        raise UsageError(f"--mode is one of {', '.join(LISTING)}")
    if record and (entity == "all" or mode != Mode.INCREMENTAL):
        raise UsageError("--record takes an --entity, transactions or contacts, and no --mode")
    services_ = services(database())

    def run(
        integration: Integration, entity_type: EntityType, run_id: str, progress: Progress, stage: Stage
    ) -> RunOutcome:
        if record:
            return outcome_of(
                runs_sync.sync_records(
                    services_,
                    integration,
                    entity_type,
                    record,
                    sync_type=SyncType.MANUAL,
                    run_id=run_id,
                    stage=stage,
                )
            )
        log = runs_sync.sync(
            services_,
            integration,
            entity_type,
            mode=Mode(mode),
            sync_type=SyncType.MANUAL,
            run_id=run_id,
            progress=progress,
            stage=stage,
        )
        return outcome_of(log)

    run_streams(services_.database, organization, entity_types(entity), run, context.obj or as_json)


@app.command()
def remap(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    as_json: Json = False,
) -> None:
    """Map, check and load everything again that was ever fetched, as after a change of mappings or suites."""
    database_ = database()

    def run(
        integration: Integration, entity_type: EntityType, run_id: str, progress: Progress, stage: Stage
    ) -> RunOutcome:
        return outcome_of(
            runs_sync.remap(database_, integration, entity_type, sync_type=SyncType.MANUAL, run_id=run_id, stage=stage)
        )

    run_streams(database_, organization, entity_types(entity), run, context.obj or as_json)


@app.command()
def reconcile(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    yes: Annotated[bool, typer.Option("--yes", help="Delete also where that is more than the limit allows.")] = False,
    as_json: Json = False,
) -> None:
    """Compare both sides, heal what differs, and delete here what SoftPro has no more."""
    (allowed,) = settings.load(settings.ReconcileSettings)
    services_ = services(database())

    def run(
        integration: Integration, entity_type: EntityType, run_id: str, progress: Progress, stage: Stage
    ) -> RunOutcome:
        audit = runs_reconcile.reconcile(
            services_,
            integration,
            entity_type,
            limit=DeleteLimit(allowed.percent, allowed.records),
            sync_type=SyncType.MANUAL,
            run_id=run_id,
            approved_by=operator() if yes else None,
            progress=progress,
            stage=stage,
        )
        return RunOutcome(audit.as_json(), audit.line(), audit.problems())

    run_streams(services_.database, organization, entity_types(entity), run, context.obj or as_json)


@app.command()
def status(
    context: typer.Context,
    organization: Annotated[str | None, typer.Argument(metavar="[ORG]", help="One organization; else all.")] = None,
    as_json: Json = False,
) -> None:
    """Show connections, and what each holds."""
    with database().connect() as connection:
        found = [integrations.find(connection, organization)] if organization else integrations.every(connection)
        for integration in found:
            for entity_type in EntityType:
                state = integrations.stream_status(connection, integration, entity_type)
                print(json.dumps(state) if context.obj or as_json else status_line(state))
    if not found:
        say("No organization is connected yet; begin with: python -m softpro connect ORG")


@app.command()
def probe(context: typer.Context, organization: Organization, as_json: Json = False) -> None:
    """Ask SoftPro, by reads alone, what its contract leaves open; the sync heeds the answers from then on."""
    from softpro.softpro360.probe import NOT_ASKED
    from softpro.softpro360.probe import probe as run

    services_ = services(database())
    with services_.database.connect() as connection:
        integration = integrations.find(connection, organization)
        integrations.require_connected(integration)
        with services_.client(integration) as client:
            client.waiting = lambda seconds: say(f"{seconds:.0f} s until the rate limit lets more through")
            findings = run(connection, client, integration.id)
    if context.obj or as_json:
        answers = [{"question": f.question, "contract": f.contract, "answer": f.answer} for f in findings]
        print(json.dumps({"environment": integration.environment, "answers": answers, "notAsked": NOT_ASKED}))
        return
    print(f"SoftPro 360 ({integration.environment}), asked by reads alone")
    for finding in findings:
        print(f"\n{finding.question}\n  {finding.answer}")
        if finding.differs:
            print(f"  the contract says: {finding.contract}")
    print("\nNot asked, as it takes more than reads:")
    for question in NOT_ASKED:
        print(f"  {question}")


@app.command()
def rotate_keys(context: typer.Context, as_json: Json = False) -> None:
    """Encrypt all stored secrets with the first key of INTEGRATION_ENCRYPTION_KEY."""
    from softpro.connections.key_rotation import rotate
    from softpro.db.encryption import Vault

    wanted, encryption = settings.load(settings.DatabaseSettings, settings.EncryptionSettings)
    with open_database(wanted).connect() as connection, rotation_bar() as progress:
        rotation = rotate(connection, Vault(encryption.keys), progress)
    print(json.dumps(rotation.as_json()) if context.obj or as_json else rotation_line(rotation))
    for cell, why in rotation.unopenable:
        say(f"{cell.organization_id}: {why}")
    if rotation.remaining > len(rotation.unopenable):
        say("A process still encrypts with another key: put the new key first everywhere, then run rotate-keys again")
    if rotation.remaining or rotation.unopenable:
        raise typer.Exit(EXIT_FAILED)


def rotation_line(rotation: Rotation) -> str:
    return (
        f"re-encrypted {rotation.reencrypted} of {rotation.total} secrets, "
        f"{rotation.remaining} left under another key than the first "
        f"({', '.join(f'key {n}: {held}' for n, held in enumerate(rotation.by_key, 1))})"
    )


def status_line(state: dict[str, Any]) -> str:
    last = state["lastSyncAt"] or "never"
    line = (
        f"{state['organizationId']}  {state['status']}  {state['environment']}  {state['entityType'].lower()}s: "
        f"{state['rows']} rows, {state['pending']} pending, {state['quarantined']} quarantined, last sync {last}"
    )
    line += f", grant ends {state['grantExpiresAt']}" if state["grantExpiresAt"] else ""
    if state["editsWaiting"] or state["openConflicts"]:
        line += (
            f"\n  {state['editsWaiting']} edits wait to be sent to SoftPro, {state['openConflicts']} conflicts are open"
        )
    if state["outage"]:
        line += "\n  not asked since {since}, next try at {nextTryAt}: {reason}".format_map(state["outage"])
    if hold := state["hold"]:
        told = "; ".join(finding["message"] for finding in hold["findings"])
        line += (
            f"\n  held ({hold['status']}), {hold['records']} records: {told}; see: holds list {state['organizationId']}"
        )
    return line + (f"\n  last error: {state['lastErrorMessage']}" if state["lastErrorMessage"] else "")


def main() -> None:
    """Runs a command. Exit 0: all well; 1: something failed; 2: wrong use."""
    try:
        app()
    except (SettingsError, MappingError) as wrong:
        for problem in wrong.problems:
            say(f"softpro: {problem}")
        sys.exit(EXIT_WRONG_USE)
    except UsageError as wrong:
        say(f"softpro: {wrong}")
        sys.exit(EXIT_WRONG_USE)
    except SoftProError as failed:
        say(f"softpro: {failed}")
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
