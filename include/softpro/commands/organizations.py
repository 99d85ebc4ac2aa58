"""Change, disconnect and remove an organization: `python -m softpro settings | disconnect | remove ORG`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from softpro.commands.common import Json, Organization, database, printable, say
from softpro.connections import oauth_flow
from softpro.connections.settings_change import CLIENT, SettingsChange, change_settings
from softpro.db import integration_settings, integrations
from softpro.db.encryption import Vault
from softpro.db.integration_settings import IntegrationSettings
from softpro.errors import UsageError
from softpro.services import services
from softpro.settings import EncryptionSettings, load


def settings(
    context: typer.Context,
    organization: Organization,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting to change, such as syncFrequency=600. The value is JSON or text; @FILE reads it from a "
            "file. Repeatable.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show an organization's settings, or change some.

    A new environment or client takes effect once a user connects again.
    """
    change = _parse(values) if values else None
    database_ = database()
    with database_.connect() as connection:
        integration = integrations.find(connection, organization)
        if change is not None:
            # Only a client's secret is encrypted.
            keys = load(EncryptionSettings)[0].keys if change.sent & CLIENT else ()
            change_settings(connection, Vault(keys), integration.id, change)
        found = _as_json(integration_settings.read(connection, integration.id))
    if context.obj or as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(printable(f"{name}  {value if isinstance(value, str) else json.dumps(value)}"))


def disconnect(organization: Organization) -> None:
    """End a connection.

    Erases the tokens and ends the grant at SoftPro. Synced rows stay.
    """
    services_ = services(database())
    with services_.database.connect() as connection:
        integration = integrations.find(connection, organization)
    notified = oauth_flow.disconnect(services_, integration.id)
    print(f"{integration.organization_id} is disconnected")
    if not notified:
        say("SoftPro could not be reached, so end the grant there as well")


def remove(organization: Organization) -> None:
    """Remove an organization that never connected.

    One that was connected keeps its records and history: use disconnect.
    """
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        oauth_flow.remove(connection, integration)
    print(f"{integration.organization_id} is removed")


def _as_json(found: IntegrationSettings) -> dict[str, Any]:
    return {to_camel(name): str(value) if name == "id" else value for name, value in asdict(found).items()}


def _parse(values: list[str]) -> SettingsChange:
    """Return the change that `--set` describes. Raises UsageError, which never shows a value."""
    given: dict[str, Any] = {}
    for each in values:
        name, equals, text = each.partition("=")
        if not equals:
            raise UsageError("--set must be NAME=VALUE, such as --set syncFrequency=600")
        if name in given:
            raise UsageError(f"--set {name} is given twice")
        given[name] = _value(name, text)
    try:
        return SettingsChange.model_validate(given)
    except ValidationError as invalid:
        problems = [
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}" if error["loc"] else error["msg"]
            for error in invalid.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise UsageError("; ".join(problems)) from None


def _value(name: str, text: str) -> Any:
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"--set {name}: the file {text[1:]} cannot be read as text") from None
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if name in ("clientId", "clientSecret") and value is not None else value
