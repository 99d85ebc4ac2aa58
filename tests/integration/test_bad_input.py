"""Report bad input from outside in one clear sentence, with the right exit code and without partial effects."""

from __future__ import annotations

import time

import pytest
from psycopg.conninfo import make_conninfo

from softpro.db.database import Database
from softpro.entities import EntityType
from softpro.errors import ConsentRefused, MappingError, StateError, UsageError
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.runs import pipeline
from softpro.services import Services

from ..support.databases import dump, execute, one, rows
from ..support.fixture_types import Connected
from ..support.product import (
    CommandResult,
    begin,
    begin_connection,
    command,
    environment,
    finish_connection,
    sync,
)
from ..support.sandbox import Sandbox


def sentence(answer: CommandResult) -> str:
    """Return the single line that was printed on stderr."""
    assert answer.out == ""
    (line,) = answer.err.splitlines()
    return line.removeprefix("softpro: ")


def without(tables: dict[str, list[str]], *names: str) -> dict[str, list[str]]:
    return {name: lines for name, lines in tables.items() if name not in names}


def test_every_missing_or_wrong_setting_is_named_at_once(settings: dict[str, str], database: Database) -> None:
    before = dump(database)
    lacking = {name: value for name, value in settings.items() if name != "INTEGRATION_ENCRYPTION_KEY"}
    answer = command({**lacking, "SOFTPRO_SYNC_BATCH_SIZE": "0", "SOFTPRO_MAX_RETRIES": "few"}, "sync", "acme")
    assert (answer.code, answer.out) == (2, "")
    assert [line.split()[1] for line in answer.err.splitlines()] == [
        "INTEGRATION_ENCRYPTION_KEY",
        "SOFTPRO_MAX_RETRIES",
        "SOFTPRO_SYNC_BATCH_SIZE",
    ]
    assert dump(database) == before


def test_connect_asks_for_credentials_when_there_are_none(settings: dict[str, str], database: Database) -> None:
    lacking = {name: value for name, value in settings.items() if not name.startswith("SOFTPRO_CLIENT")}
    answer = command(lacking, "connect", "acme")
    assert answer.code == 2
    assert [line.split()[1] for line in answer.err.splitlines()] == ["SOFTPRO_CLIENT_ID", "SOFTPRO_CLIENT_SECRET"]
    assert rows(database, "select from softpro.integrations") == []


def test_an_unreachable_database_is_exit_1(settings: dict[str, str]) -> None:
    address = "postgresql://me:zq-password@127.0.0.1:1/nowhere"
    nowhere = {**settings, "SOFTPRO_DATABASE_URL": address, "SOFTPRO_MIGRATE_DATABASE_URL": address}
    for arguments in (["status"], ["sync", "acme"], ["migrate"]):
        answer = command(nowhere, *arguments)
        assert answer.code == 1
        assert sentence(answer).startswith("The database can't be ")
        assert "zq-password" not in answer.err


def test_an_invalid_address_is_wrong_use(settings: dict[str, str]) -> None:
    answer = command({**settings, "SOFTPRO_DATABASE_URL": "zq-password@@nowhere//"}, "status")
    assert answer.code == 2
    assert sentence(answer) == (
        "SOFTPRO_DATABASE_URL is wrong: it should be a libpq address such as postgresql://user@host/database"
    )


def test_a_database_without_tables_says_to_migrate(bare_database: Database, sandbox: Sandbox) -> None:
    answer = command(environment(bare_database, sandbox), "status")
    assert answer.code == 1
    assert sentence(answer).endswith("run `python -m softpro migrate`")


def test_an_unknown_organization_is_wrong_use(settings: dict[str, str], database: Database) -> None:
    before = dump(database)
    for arguments in (["sync", "nobody"], ["status", "nobody"]):
        answer = command(settings, *arguments)
        assert answer.code == 2
        assert sentence(answer) == "No integration has the organization 'nobody': connect it first"
    assert dump(database) == before


def test_an_organization_that_was_never_allowed_says_so(settings: dict[str, str], database: Database) -> None:
    command(settings, "connect", "acme")
    before = dump(database)
    answer = command(settings, "sync", "acme")
    assert (answer.code, sentence(answer)) == (1, "acme is AUTHENTICATING: a user has to connect it")
    assert dump(database) == before


def test_the_wrong_key_opens_nothing_and_loads_nothing(
    settings: dict[str, str], connected: Connected, database: Database
) -> None:
    connected("acme")
    before = dump(database)
    wrong = {**settings, "INTEGRATION_ENCRYPTION_KEY": "quite another key, 32 characters"}
    answer = command(wrong, "sync", "acme", "--entity", "contacts")
    assert answer.code == 1
    assert "was encrypted with a key that INTEGRATION_ENCRYPTION_KEY does not hold" in answer.err
    assert "Traceback" not in answer.err
    after = dump(database)
    changing = ("softpro.sync_logs", "softpro.integrations", "softpro.leases", "softpro.cursors")
    assert without(after, *changing) == without(before, *changing)
    assert one(database, "select updated_from from softpro.cursors") is None
    assert one(database, "select status from softpro.sync_logs") == "FAILED"
    assert one(database, "select log_id from softpro.leases") is None
    assert one(database, "select status from softpro.integrations") == "CONNECTED"


def test_refused_consent_says_so_and_a_second_try_may_succeed(
    settings: dict[str, str], sandbox: Sandbox, vendor_organization: str, database: Database
) -> None:
    url = command(settings, "connect", "acme").out.strip()
    answer = command(settings, "callback", sandbox.consent(url, vendor_organization, "refuse"))
    assert answer.code == 1
    assert sentence(answer).startswith("SoftPro did not authorize acme: ")
    (row,) = rows(database, "select status, access_token, refresh_token from softpro.integrations")
    assert row == {"status": "PENDING", "access_token": None, "refresh_token": None}
    url = command(settings, "connect", "acme").out.strip()
    assert command(settings, "callback", sandbox.consent(url, vendor_organization)).code == 0


def test_refused_consent_leaves_an_existing_connection(
    services: Services, connected: Connected, sandbox: Sandbox, vendor_organization: str
) -> None:
    integration = connected("acme")
    address = sandbox.consent(begin_connection(services, "acme"), vendor_organization, "refuse")
    with pytest.raises(ConsentRefused):
        finish_connection(services, address)
    assert sync(services, integration, EntityType.CONTACT).status == "COMPLETED"


def test_a_state_works_once(
    settings: dict[str, str],
    services: Services,
    sandbox: Sandbox,
    vendor_organization: str,
) -> None:
    address = sandbox.consent(begin_connection(services, "acme"), vendor_organization)
    finish_connection(services, address)
    before = dump(services.database)
    answer = command(settings, "callback", address)
    assert answer.code == 2
    assert sentence(answer).endswith("start again with connect")
    assert dump(services.database) == before


@pytest.mark.parametrize(
    ("begun_in", "came_back_in"), [("browser A", "browser B"), ("browser A", None), (None, "browser B")]
)
def test_a_state_begun_for_another_browser_is_refused(
    services: Services,
    sandbox: Sandbox,
    vendor_organization: str,
    begun_in: str | None,
    came_back_in: str | None,
) -> None:
    address = sandbox.consent(begin_connection(services, "acme", begun_in), vendor_organization)
    before = dump(services.database)
    with pytest.raises(StateError):
        finish_connection(services, address, came_back_in)
    assert dump(services.database) == before
    assert finish_connection(services, address, begun_in).status == "CONNECTED"


def test_an_old_and_an_unknown_state_are_refused_alike(
    services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    address = sandbox.consent(begin_connection(services, "acme"), vendor_organization)
    execute(services.database, "update softpro.oauth_states set expires_at = now() - interval '1 second'")
    before = dump(services.database)
    said = set()
    for tried in (address, "http://localhost/cb?code=x&state=made-up"):
        with pytest.raises(StateError) as refused:
            finish_connection(services, tried)
        said.add(str(refused.value))
    assert len(said) == 1
    assert dump(services.database) == before


def test_an_invalid_code_leaves_nothing_connected(services: Services, sandbox: Sandbox) -> None:
    state = begin_connection(services, "acme").partition("&state=")[2].partition("&")[0]
    with pytest.raises(ConsentRefused, match="SoftPro refused the authorization"):
        finish_connection(services, f"http://localhost/cb?code=made-up&state={state}")
    (row,) = rows(services.database, "select status, access_token from softpro.integrations")
    assert row == {"status": "PENDING", "access_token": None}
    assert rows(services.database, "select from softpro.mappings") == []


def test_consent_for_another_organization_of_the_vendors_is_refused_and_its_grant_ended(
    services: Services, connected: Connected, sandbox: Sandbox
) -> None:
    integration = connected("acme")
    other = sandbox.unused_organization()
    before = dump(services.database)
    with pytest.raises(UsageError, match=f"the consent was given for '{other}': choose "):
        connected("acme", at=other)
    changing = ("softpro.integrations", "softpro.oauth_states")
    assert without(dump(services.database), *changing) == without(before, *changing)
    assert sync(services, integration, EntityType.CONTACT).status == "COMPLETED"


def test_an_unknown_mapping_target_refuses_the_whole_set(services: Services, connected: Connected) -> None:
    integration = connected("acme")
    before = dump(services.database)
    wanted = [*default_mappings(EntityType.CONTACT), Mapping(EntityType.CONTACT, "fax", "telex")]
    with services.database.connect() as connection, pytest.raises(MappingError, match="'telex' is not a column"):
        repository.replace(connection, integration.id, "acme", wanted, "me")
    assert dump(services.database) == before


def test_a_vendor_that_is_away_is_exit_1_and_the_next_try_is_put_off(
    settings: dict[str, str], connected: Connected, database: Database
) -> None:
    connected("acme")
    away = {**settings, "SOFTPRO_SANDBOX_BASE_URL": "http://127.0.0.1:1/api/v1", "SOFTPRO_MAX_RETRIES": "0"}
    began = time.time()
    answer = command(away, "sync", "acme", "--entity", "contacts")
    assert answer.code == 1
    assert "SoftPro did not respond" in answer.err
    (row,) = rows(database, "select consecutive_failures, next_attempt_at, status from softpro.integrations")
    assert (row["consecutive_failures"], row["status"]) == (1, "CONNECTED")
    assert 55 < row["next_attempt_at"].timestamp() - began < 70


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["callback", "http://[x"], "URL must be the complete address"),
        (["status", "a b"], "An organization id is 1 to 128 visible characters"),
        (["sync", "a\udcff"], "An organization id is 1 to 128 visible characters"),
        (["sync", "acme", "--entity", "documents"], "--entity must be one of transactions, contacts, or all"),
    ],
)
def test_an_argument_that_can_not_be_right_is_wrong_use(
    settings: dict[str, str], arguments: list[str], said: str
) -> None:
    answer = command(settings, *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert sentence(answer).startswith(said)


def test_a_role_without_rights_is_refused_in_one_sentence(settings: dict[str, str], database: Database) -> None:
    execute(database, "drop role if exists powerless")
    execute(database, "create role powerless login")
    powerless = {**settings, "SOFTPRO_DATABASE_URL": make_conninfo(database.conninfo, user="powerless")}
    answer = command(powerless, "status")
    assert (answer.code, answer.out) == (1, "")
    assert "permission denied" in sentence(answer)


def test_a_run_that_fails_leaves_nothing_in_staging(services: Services, connected: Connected) -> None:
    run = begin(services, connected("acme"), EntityType.CONTACT)
    pipeline.extract(services, run)
    pipeline.transform(services.database, run)
    assert one(services.database, "select count(*) from staging.contacts") > 0

    pipeline.fail(services.database, run, RuntimeError("the check could not run"))

    assert one(services.database, "select count(*) from staging.contacts") == 0
    assert one(services.database, "select count(*) from raw.pending") > 0
