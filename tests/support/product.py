"""The product between a database and a sandbox: in this process, and as the command line."""

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
from softpro.softpro360.client import Client

from .forked_process import forked
from .sandbox import CLIENT_ID, CLIENT_SECRET, Sandbox

KEY = "an encryption key, 32 characters"


class Hurried(Services):
    """The services of a test: what they would wait for between two tries is left out, nothing else."""

    @contextmanager
    def client(self, integration: Integration, *, bulk: bool = False) -> Iterator[Client]:
        with super().client(integration, bulk=bulk) as client:
            client.sleep = lambda seconds: None
            yield client


def environment(database: Database, sandbox: Sandbox, **more: str) -> dict[str, str]:
    """The product's whole environment, and none of this process's SOFTPRO_ variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SOFTPRO_")}
    return {
        **inherited,
        **sandbox.environment(),
        "SOFTPRO_DATABASE_URL": database.conninfo,
        "INTEGRATION_ENCRYPTION_KEY": KEY,
        "SOFTPRO_RATE_LIMIT_PER_MIN": "1000000",
        **more,
    }


def services_in(settings: Mapping[str, str], database: Database) -> Services:
    """The services as that environment describes them."""
    with patch.dict(os.environ, settings, clear=True):
        made = read_services(database)
    return Hurried(made.database, made.vault, made.oauth, made.vendor, made.sync)


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str


def command(settings: Mapping[str, str], *arguments: str, timeout: float = 60) -> Answer:
    """Runs `python -m softpro` as a process of its own."""
    with forked("softpro", *arguments, environment=settings) as (process, out, err):
        process.join(timeout)
        assert process.exitcode is not None, f"{arguments} took longer than {timeout} s: {err.read_text()}"
        return Answer(process.exitcode, out.read_text(), err.read_text())


def fresh_command(settings: Mapping[str, str], *arguments: str, timeout: float = 60) -> Answer:
    """The same in a Python that imports what it needs, as a person's does."""
    ended = subprocess.run(
        [sys.executable, "-m", "softpro", *arguments], env=settings, capture_output=True, timeout=timeout, check=False
    )
    return Answer(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def racer(settings: Mapping[str, str], code: str) -> subprocess.Popen[str]:
    """Python code in a process of its own that waits for a line before it begins, for races."""
    return subprocess.Popen(
        [sys.executable, "-c", f"input(); {code}"],
        env=settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begin_connection(services: Services, organization: str, browser: str | None = None) -> str:
    """The address that asks a person for consent."""
    return oauth_flow.connect(
        services,
        organization,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        environment="SANDBOX",
        browser=browser,
    )


def finish_connection(services: Services, address: str, browser: str | None = None) -> Integration:
    """The callback, with the address the browser was sent to."""
    return oauth_flow.callback(services, dict(parse_qsl(urlsplit(address).query)), browser)


def between(database: Database, sandbox: Sandbox, **settings: str) -> tuple[Services, Integration]:
    """A product with these settings, and its organization `acme` connected to the sandbox's first one."""
    services = services_in(environment(database, sandbox, **settings), database)
    address = sandbox.consent(begin_connection(services, "acme"), sandbox.organizations[0])
    return services, finish_connection(services, address)


def sync(
    services: Services,
    integration: Integration,
    entity_type: EntityType = EntityType.TRANSACTION,
    mode: Mode = Mode.INCREMENTAL,
) -> SyncLog:
    """A run of one stream from begin to finish, with the integration as it stands now."""
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
    """The first step alone: a run that holds its stream's lease."""
    return pipeline.begin(
        services.database, integration, entity_type, mode=mode, sync_type=SyncType.MANUAL, run_id=f"test__{uuid4()}"
    )
