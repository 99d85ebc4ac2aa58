"""Rotate the encryption key during other work: `rotate-keys` re-encrypts every secret and loses no token."""

from __future__ import annotations

import json
import threading
import time

import pytest

from softpro.connections.key_rotation import Cell, Rotation, cells, rotate
from softpro.db import oauth_tokens
from softpro.db.database import Database
from softpro.db.encryption import Place, Vault
from softpro.db.integrations import Integration
from softpro.db.oauth_tokens import Tokens
from softpro.errors import DecryptionError
from softpro.services import Services

from ..support.databases import dump, execute, one, rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.forked_process import forked
from ..support.product import KEY, begin_connection, build_services, command, environment, finish_connection
from ..support.sandbox import CLIENT_SECRET, Sandbox

NEW_KEY = "another encryption key, also 32!"
BOTH, SWAPPED = f"{NEW_KEY.encode().hex()},{KEY.encode().hex()}", f"{KEY.encode().hex()},{NEW_KEY.encode().hex()}"
NEW, ROTATING = Vault((NEW_KEY.encode(),)), Vault((NEW_KEY.encode(), KEY.encode()))
WAITING = "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database())"


@pytest.fixture
def integration(services: Services, connected: Connected, sandbox: Sandbox) -> Integration:
    """Create two connections and three authorizations, one of them pending: twelve sealed cells."""
    connected("globex", at=sandbox.unused_organization())
    begin_connection(services, "acme")
    return connected("acme")


def rotated(database: Database, vault: Vault = ROTATING) -> Rotation:
    with database.connect() as connection:
        return rotate(connection, vault, lambda done, total: None)


def sealed(database: Database) -> list[Cell]:
    with database.connect() as connection:
        return list(cells(connection))


def refresh_token(services: Services, vault: Vault, integration: Integration) -> str | None:
    with services.database.connect() as connection:
        return oauth_tokens.read(connection, vault, integration.id).refresh_token


def test_afterwards_the_new_key_alone_opens_everything(
    services: Services, settings: dict[str, str], integration: Integration
) -> None:
    before = {cell.place: services.vault.open(cell.sealed, cell.place) for cell in sealed(services.database)}

    answer = command({**settings, "INTEGRATION_ENCRYPTION_KEY": BOTH}, "rotate-keys")

    assert (answer.code, answer.err) == (0, "")
    assert (
        answer.out == "re-encrypted 12 of 12 secrets, 0 left under another key than the first (key 1: 12, key 2: 0)\n"
    )
    assert {cell.place: NEW.open(cell.sealed, cell.place) for cell in sealed(services.database)} == before
    old_key = services.vault.seal("", sealed(services.database)[0].place).split(".")[1]
    assert [line for lines in dump(services.database).values() for line in lines if f"v1.{old_key}." in line] == []


def test_a_second_run_writes_nothing(services: Services, settings: dict[str, str], integration: Integration) -> None:
    keys = {**settings, "INTEGRATION_ENCRYPTION_KEY": BOTH}
    command(keys, "rotate-keys")
    before = dump(services.database, versions=True)

    again = command(keys, "rotate-keys", "--json")

    assert again.code == 0
    assert json.loads(again.out) == {"total": 12, "reencrypted": 0, "remaining": 0, "byKey": [12, 0], "unopenable": []}
    assert dump(services.database, versions=True) == before


def test_a_token_stored_between_read_and_write_stays(services: Services, integration: Integration) -> None:
    """The rotation has read the row, and waits for its lock while a refresh stores a new pair under the old key."""
    rotations: list[Rotation] = []
    with services.database.connect() as refresher, services.database.connect() as watcher:
        with refresher.transaction():
            oauth_tokens.store(refresher, services.vault, integration.id, Tokens("new access", "new refresh", 3600))
            rotation = threading.Thread(target=lambda: rotations.append(rotated(services.database)))
            rotation.start()
            deadline = time.monotonic() + 60
            while watcher.execute(WAITING).fetchone() != {"exists": True}:
                assert time.monotonic() < deadline, "the rotation does not wait for the row"
                time.sleep(0.01)
        rotation.join()

    assert refresh_token(services, NEW, integration) == "new refresh"
    assert [(each.reencrypted, each.total, each.remaining) for each in rotations] == [(12, 12, 0)]


def test_tokens_refreshed_all_the_while_are_never_overwritten_by_older_ones(
    services: Services, integration: Integration
) -> None:
    lost, stop = [], threading.Event()

    def refresh() -> None:
        number = 0
        with services.database.connect() as connection:
            while not stop.is_set():
                number += 1
                oauth_tokens.store(connection, services.vault, integration.id, Tokens(f"a{number}", f"r{number}", 3600))
                time.sleep(0.002)
                if oauth_tokens.read(connection, ROTATING, integration.id).refresh_token != f"r{number}":
                    lost.append(number)

    refresher = threading.Thread(target=refresh)
    refresher.start()
    try:
        resealed = sum(rotated(services.database).reencrypted for _ in range(100))
    finally:
        stop.set()
        refresher.join()

    assert lost == []
    assert resealed > 100
    assert rotated(services.database).remaining == 0


def test_a_cell_that_no_key_opens_is_named_and_the_others_are_done(
    services: Services, settings: dict[str, str], integration: Integration
) -> None:
    opened = {services.vault.open(cell.sealed, cell.place) for cell in sealed(services.database)}
    lost = Place("softpro.integrations", "refresh_token", integration.id)
    damaged = Vault((b"k" * 32,)).seal("who knows", lost)
    execute(services.database, "update softpro.integrations set refresh_token = %s where id = %s", damaged, lost.row)

    keys = {**settings, "INTEGRATION_ENCRYPTION_KEY": BOTH}
    answer, as_json = command(keys, "rotate-keys"), command(keys, "--json", "rotate-keys")

    assert (answer.code, as_json.code) == (1, 1)
    assert (
        answer.out == "re-encrypted 11 of 12 secrets, 1 left under another key than the first (key 1: 11, key 2: 0)\n"
    )
    assert answer.err.startswith("acme: The stored softpro.integrations.refresh_token of ")
    assert len(answer.err.splitlines()) == 1
    assert json.loads(as_json.out) == {
        "total": 12,
        "reencrypted": 0,
        "remaining": 1,
        "byKey": [11, 0],
        "unopenable": [
            {"table": "softpro.integrations", "column": "refresh_token", "organizationId": "acme"},
        ],
    }
    assert {cell.place for cell in sealed(services.database) if not NEW.is_current(cell.sealed)} == {lost}
    secrets = {KEY, NEW_KEY, *BOTH.split(","), damaged, CLIENT_SECRET, *opened}
    assert [secret for secret in secrets if secret in answer.out + answer.err + as_json.out + as_json.err] == []


def test_a_damaged_cell_under_the_first_key_is_named_too(services: Services, integration: Integration) -> None:
    rotated(services.database)
    execute(
        services.database,
        "update softpro.integrations set access_token = refresh_token where organization_id = 'acme'",
    )

    rotation = rotated(services.database)

    assert [(cell.place.column, cell.organization_id) for cell, _ in rotation.unopenable] == [("access_token", "acme")]
    with services.database.connect() as connection, pytest.raises(DecryptionError):
        oauth_tokens.read(connection, NEW, integration.id)


def test_more_rows_than_a_batch_are_all_done(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softpro.connections.key_rotation.BATCH_ROWS", 3)
    for number in range(10):
        begin_connection(services, f"org-{number}")

    rotation = rotated(services.database)

    assert (rotation.reencrypted, rotation.total, rotation.remaining) == (30, 30, 0)


def test_a_process_that_still_encrypts_with_the_old_key_is_reported(
    services: Services, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, integration: Integration
) -> None:
    def store_between(done: int, total: int) -> None:
        if done == total:
            with services.database.connect() as connection:
                oauth_tokens.store(connection, services.vault, integration.id, Tokens("late", "late", 3600))

    with services.database.connect() as connection:
        rotation = rotate(connection, ROTATING, store_between)

    assert (rotation.reencrypted, rotation.remaining, rotation.unopenable) == (12, 2, [])


@pytest.fixture
def slow_vendor(start_sandbox: StartSandbox) -> Sandbox:
    """Start a slow sandbox, so that a sync lasts for seconds and refreshes its token several times."""
    return start_sandbox(accessTokenLifetime=2, slow=1, slowSeconds=0.15)


@pytest.mark.parametrize("held", [BOTH, SWAPPED], ids=["new first", "old first"])
def test_keys_rotated_in_the_middle_of_a_sync_disturb_no_call(
    database: Database, slow_vendor: Sandbox, held: str
) -> None:
    settings = environment(database, slow_vendor, SOFTPRO_SYNC_BATCH_SIZE="3", SOFTPRO_RATE_LIMIT_PER_MIN="100000")
    address = slow_vendor.consent(
        begin_connection(build_services(settings, database), "acme"), slow_vendor.organizations[0]
    )
    finish_connection(build_services(settings, database), address)

    syncing = {**settings, "INTEGRATION_ENCRYPTION_KEY": held}
    with forked("softpro", "sync", "acme", "--entity", "transactions", environment=syncing) as (process, _, _):
        deadline = time.monotonic() + 60
        while slow_vendor.stats()["refreshes"] < 1:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        answer = command({**settings, "INTEGRATION_ENCRYPTION_KEY": BOTH}, "rotate-keys", "--json")
        assert process.poll() is None, "the sync was too fast: nothing was shown"
        process.wait(60)

    assert json.loads(answer.out)["reencrypted"] >= 3
    assert [log["status"] for log in rows(database, "select status from softpro.sync_logs")] == ["COMPLETED"]
    stats = slow_vendor.stats()
    assert (stats["unauthenticated"], stats["deadRefreshTokens"]) == (0, 0)
    assert stats["refreshes"] >= 2
    assert rotated(database).remaining == 0
    assert build_services({**settings, "INTEGRATION_ENCRYPTION_KEY": NEW_KEY}, database).vault == NEW
    with database.connect() as connection:
        assert oauth_tokens.read(connection, NEW, one(database, "select id from softpro.integrations")).refresh_token
