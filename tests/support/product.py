"""Run the product between a database and a sandbox, in this process or as the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

from softpro.connections import oauth_flow
from softpro.db import integrations
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.db.leases import Run
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, Mode, SyncType
from softpro.runs import pipeline
from softpro.runs import sync as runs_sync
from softpro.services import Services
from softpro.services import services as read_services
from softpro.settings import QualitySettings, load
from softpro.softpro360.client import Client

from .databases import LOADER, as_login
from .forked_process import ForkedProcess, forked
from .sandbox import CLIENT_ID, CLIENT_SECRET, Sandbox

KEY = "an encryption key, 32 characters"


class NoWaitServices(Services):
    """The services of a test: they do not wait between retries."""

    @contextmanager
    def client(self, integration: Integration, *, bulk: bool = False) -> Iterator[Client]:
        with super().client(integration, bulk=bulk) as client:
            client.sleep = lambda seconds: None
            yield client


def environment(database: Database, sandbox: Sandbox, **more: str) -> dict[str, str]:
    """Return the product's whole environment, without this process's SOFTPRO_ variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SOFTPRO_")}
    return {
        **inherited,
        **sandbox.environment(),
        "SOFTPRO_MIGRATE_DATABASE_URL": database.conninfo,
        "SOFTPRO_DATABASE_URL": as_login(database, LOADER).conninfo,
        "INTEGRATION_ENCRYPTION_KEY": KEY,
        "SOFTPRO_RATE_LIMIT_PER_MIN": "1000000",
        **more,
    }


def build_services(settings: Mapping[str, str], database: Database) -> Services:
    """Return the services that this environment describes."""
    with patch.dict(os.environ, settings, clear=True):
        made = read_services(as_login(database, LOADER))
    return NoWaitServices(made.database, made.vault, made.oauth, made.vendor, made.sync)


def quality_settings() -> QualitySettings:
    """Return when a batch is held, by the environment or the defaults."""
    (quality,) = load(QualitySettings)
    return quality


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


def command(settings: Mapping[str, str], *arguments: str, timeout: float = 60) -> CommandResult:
    """Run `python -m softpro` as a process."""
    with forked("softpro", *arguments, environment=settings) as (process, out, err):
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{arguments} took longer than {timeout} s: {err.read_text()}") from None
        return CommandResult(code, out.read_text(), err.read_text())


def fresh_command(settings: Mapping[str, str], *arguments: str, timeout: float = 60) -> CommandResult:
    """Run the command in a new Python that imports what it needs, as a user's shell does."""
    ended = subprocess.run(
        [sys.executable, "-m", "softpro", *arguments], env=settings, capture_output=True, timeout=timeout, check=False
    )
    return CommandResult(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def paused_process(settings: Mapping[str, str], code: str) -> subprocess.Popen[str]:
    """Start Python code in a process that waits for a line on its input before it begins. Used for races."""
    return ForkedProcess(
        code=f"input(); {code}",
        environment=settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def begin_connection(services: Services, organization: str, browser: str | None = None) -> str:
    """Return the address of the consent page."""
    return oauth_flow.connect(
        services,
        organization,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        environment="SANDBOX",
        browser=browser,
    )


def finish_connection(services: Services, address: str, browser: str | None = None) -> Integration:
    """Complete the connection with the address that the browser was redirected to."""
    return oauth_flow.callback(services, dict(parse_qsl(urlsplit(address).query)), browser)


def connect_acme(database: Database, sandbox: Sandbox, **settings: str) -> tuple[Services, Integration]:
    """Return a product with these settings, and its organization `acme` connected to the sandbox's first one."""
    services = build_services(environment(database, sandbox, **settings), database)
    address = sandbox.consent(begin_connection(services, "acme"), sandbox.organizations[0])
    return services, finish_connection(services, address)


def sync(
    services: Services,
    integration: Integration,
    entity_type: EntityType = EntityType.TRANSACTION,
    mode: Mode = Mode.INCREMENTAL,
) -> SyncLog:
    """Run one stream from begin to finish, with the integration's current state."""
    with services.database.connect() as connection:
        current = integrations.get(connection, integration.id)
    return runs_sync.sync(
        services, current, entity_type, mode=mode, sync_type=SyncType.MANUAL, run_id=f"test__{uuid4()}"
    )


def begin(
    services: Services,
    integration: Integration,
    entity_type: EntityType = EntityType.TRANSACTION,
    mode: Mode = Mode.INCREMENTAL,
) -> Run:
    """Begin a run that holds its stream's lease."""
    return pipeline.begin(
        services.database, integration, entity_type, mode=mode, sync_type=SyncType.MANUAL, run_id=f"test__{uuid4()}"
    )
