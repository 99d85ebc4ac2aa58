"""Run the command line, `python -m softpro …`, without Airflow. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, urlsplit

import typer

from softpro import settings
from softpro.commands import (
    access,
    audit,
    conflicts,
    coverage,
    holds,
    mappings,
    organizations,
    push,
    quarantine,
    webhooks,
)
from softpro.commands.common import Json, Organization, actor, database, entity_types, operator, say
from softpro.commands.progress import rotation_bar
from softpro.commands.runner import EXIT_FAILED, EXIT_WRONG_USE, RunOutcome, outcome_of, run_streams
from softpro.connections import oauth_flow
from softpro.db import audit_log, integrations
from softpro.db.database import open_database, open_migration_database, open_web_database
from softpro.entities import LISTING_MODES, EntityType, Mode, SyncType
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
    help="Sync an organization's SoftPro 360 data with its ROI Systems tables, in both directions.",
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
app.command()(audit.audit)
app.command()(organizations.settings)
app.command()(organizations.disconnect)
app.command()(organizations.remove)


@app.callback()
def options(context: typer.Context, as_json: Json = False) -> None:
    """Accept `--json` before any command."""
    context.obj = as_json
    context.with_resource(audit_log.acting(actor()))


@app.command()
def migrate() -> None:
    """Set up the database's roles, and bring the schema up to date.

    Connects by SOFTPRO_MIGRATE_DATABASE_URL, whose login may be a superuser, else by SOFTPRO_DATABASE_URL.
    """
    from softpro.db import roles
    from softpro.db.migrations import migrate as run

    (addresses,) = settings.load(settings.DatabaseSettings)
    own = open_database(addresses)
    members = {roles.OWNER: own, roles.WEB: open_web_database(addresses) or own}
    ran = run(open_migration_database(addresses) or own, members)
    typer.echo(f"ran {', '.join(ran)}" if ran else "up to date")


@app.command()
def connect(
    organization: Organization,
    client_id: Annotated[str | None, typer.Option(help="The OAuth client's id. Default: SOFTPRO_CLIENT_ID.")] = None,
    client_secret_file: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="A file that holds the client's secret. Default: SOFTPRO_CLIENT_SECRET."
        ),
    ] = None,
    environment: Annotated[
        str | None, typer.Option(help="SANDBOX or PRODUCTION. Default: unchanged, SANDBOX for a new integration.")
    ] = None,
) -> None:
    """Begin a connection.

    Prints the address to open in a browser, alone on one line.
    """
    if environment not in (None, "SANDBOX", "PRODUCTION"):
        raise UsageError("--environment must be SANDBOX or PRODUCTION")
    if (client_id is None) != (client_secret_file is None):
        raise UsageError("Give --client-id and --client-secret-file together, or neither")
    if client_id is None or client_secret_file is None:
        settings.load(settings.CredentialSettings, *SERVICES)  # reports all missing settings at once
        client_secret = None
    else:
        try:
            client_secret = client_secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"--client-secret-file {client_secret_file} cannot be read as text") from None
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
    address: Annotated[
        str, typer.Argument(metavar="URL", help="The address to which SoftPro sent the browser. Put it in quotes.")
    ],
) -> None:
    """Finish a connection.

    URL is the address to which SoftPro sent the browser.
    """
    try:
        parameters = dict(parse_qsl(urlsplit(address).query))
    except ValueError:
        raise UsageError("URL must be the complete address to which SoftPro sent the browser") from None
    integration = oauth_flow.callback(services(database()), parameters)
    print(
        f"{integration.organization_id} is connected to the SoftPro organization {integration.softpro_organization_id}"
    )


@app.command()
def sync(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    mode: Annotated[
        str,
        typer.Option(
            help="incremental: fetch changes. delta: list everything, load differences. full: load everything again."
        ),
    ] = Mode.INCREMENTAL.value,
    record: Annotated[
        list[str] | None,
        typer.Option(help="The SoftPro id of a record of one --entity. Syncs only this record. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch and load changed records.

    Maps and checks them before they are loaded. With --record, syncs only the named records.
    """
    if mode not in LISTING_MODES:
        raise UsageError(f"--mode must be one of {', '.join(LISTING_MODES)}")
    if record and (entity == "all" or mode != Mode.INCREMENTAL):
        raise UsageError("--record requires --entity transactions or --entity contacts, and no --mode")
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
    """Map and load all fetched records again.

    Use it after mappings or suites changed. It does not call SoftPro.
    """
    database_ = database()
    (quality,) = settings.load(settings.QualitySettings)

    def run(
        integration: Integration, entity_type: EntityType, run_id: str, progress: Progress, stage: Stage
    ) -> RunOutcome:
        return outcome_of(
            runs_sync.remap(
                database_,
                integration,
                entity_type,
                sync_type=SyncType.MANUAL,
                run_id=run_id,
                quality=quality,
                stage=stage,
            )
        )

    run_streams(database_, organization, entity_types(entity), run, context.obj or as_json)


@app.command()
def reconcile(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    yes: Annotated[bool, typer.Option("--yes", help="Delete even if the number exceeds the limit.")] = False,
    as_json: Json = False,
) -> None:
    """Compare all records with SoftPro.

    Loads differences, and soft-deletes records that SoftPro no longer has.
    """
    services_ = services(database())

    def run(
        integration: Integration, entity_type: EntityType, run_id: str, progress: Progress, stage: Stage
    ) -> RunOutcome:
        audit = runs_reconcile.reconcile(
            services_,
            integration,
            entity_type,
            limit=services_.delete_limit,
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
    organization: Annotated[str | None, typer.Argument(metavar="[ORG]", help="One organization. Default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Show the state of each organization.

    Prints the connection, rows, pending work and last sync of each entity type.
    """
    with database().connect() as connection:
        found = [integrations.find(connection, organization)] if organization else integrations.list_all(connection)
        for integration in found:
            for entity_type in EntityType:
                state = integrations.stream_status(connection, integration, entity_type)
                print(json.dumps(state) if context.obj or as_json else status_line(state))
    if not found:
        say("No organization is connected yet. Connect one with: python -m softpro connect ORG")


@app.command()
def probe(context: typer.Context, organization: Organization, as_json: Json = False) -> None:
    """Find out how SoftPro behaves.

    Reads show what the contract leaves open. Later syncs use the results.
    """
    from softpro.softpro360.probe import NOT_ASKED
    from softpro.softpro360.probe import probe as run

    services_ = services(database())
    with services_.database.connect() as connection:
        integration = integrations.find(connection, organization)
        integrations.require_connected(integration)
        with services_.client(integration) as client:
            client.waiting = lambda seconds: say(f"waits for the rate limit: {seconds:.0f} s left")
            findings = run(connection, client, integration.id)
    if context.obj or as_json:
        answers = [{"question": f.question, "contract": f.contract, "answer": f.answer} for f in findings]
        print(json.dumps({"environment": integration.environment, "answers": answers, "notAsked": NOT_ASKED}))
        return
    print(f"SoftPro 360 ({integration.environment}), probed with reads only")
    for finding in findings:
        print(f"\n{finding.question}\n  {finding.answer}")
        if finding.differs:
            print(f"  the contract says: {finding.contract}")
    print("\nNot probed, because reads cannot show it:")
    for question in NOT_ASKED:
        print(f"  {question}")


@app.command()
def rotate_keys(context: typer.Context, as_json: Json = False) -> None:
    """Re-encrypt all stored secrets.

    Uses the first key of INTEGRATION_ENCRYPTION_KEY.
    """
    from softpro.connections.key_rotation import rotate
    from softpro.db.encryption import Vault

    wanted, encryption = settings.load(settings.DatabaseSettings, settings.EncryptionSettings)
    with open_database(wanted).connect() as connection, rotation_bar() as progress:
        rotation = rotate(connection, Vault(encryption.keys), progress)
    print(json.dumps(rotation.as_json()) if context.obj or as_json else rotation_line(rotation))
    for cell, why in rotation.unopenable:
        say(f"{cell.organization_id}: {why}")
    if rotation.remaining > len(rotation.unopenable):
        say("A process still encrypts with another key. Put the new key first everywhere, then run rotate-keys again")
    if rotation.remaining or rotation.unopenable:
        raise typer.Exit(EXIT_FAILED)


def rotation_line(rotation: Rotation) -> str:
    """Return the line that `rotate-keys` prints."""
    return (
        f"re-encrypted {rotation.reencrypted} of {rotation.total} secrets, "
        f"{rotation.remaining} left under another key than the first "
        f"({', '.join(f'key {n}: {count}' for n, count in enumerate(rotation.by_key, 1))})"
    )


def status_line(state: dict[str, Any]) -> str:
    """Return the lines that `status` prints for one stream."""
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
        line += "\n  calls to SoftPro are paused since {since}, next try at {nextTryAt}: {reason}".format_map(
            state["outage"]
        )
    if hold := state["hold"]:
        findings = "; ".join(finding["message"] for finding in hold["findings"])
        line += (
            f"\n  held ({hold['status']}), {hold['records']} records: {findings}; "
            f"see: python -m softpro holds list {state['organizationId']}"
        )
    return line + (f"\n  last error: {state['lastErrorMessage']}" if state["lastErrorMessage"] else "")


def main() -> None:
    """Run a command.

    Exit codes: 0 after success, 1 after a failure, 2 after wrong use.
    """
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
