"""Migrate the schema, from several processes at once too, and compare it with the mapped columns."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from softpro.db import migrations
from softpro.db.database import Database
from softpro.db.migrations import migrate
from softpro.entities import EntityType
from softpro.errors import DatabaseUnavailable
from softpro.mapping.columns import COLUMNS, Type

from ..support.databases import execute, one, rows
from ..support.forked_process import ForkedProcess
from ..support.product import environment
from ..support.sandbox import Sandbox

REVISIONS = [f"{number:04}" for number in range(1, 21)]
ROI_TYPES = {
    Type.TEXT: "text",
    Type.MONEY: "numeric(14,2)",
    Type.NUMBER: "numeric",
    Type.TIMESTAMP: "timestamp with time zone",
    Type.JSON: "jsonb",
}
STAGING_TYPES = ROI_TYPES | {Type.MONEY: "numeric"}  # the checks reject values out of range, so staging must hold them


def columns_of(database: Database, schema: str, table: str) -> dict[str, str]:
    found = rows(
        database,
        """
        select attname as name, format_type(atttypid, atttypmod) as type
        from pg_attribute
        where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped
        """,
        f"{schema}.{table}",
    )
    return {row["name"]: row["type"] for row in found}


def test_migrating_twice_does_nothing_the_second_time(bare_database: Database) -> None:
    assert migrate(bare_database) == REVISIONS
    assert migrate(bare_database) == []


def test_grants_on_a_recreated_view_are_kept(
    bare_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = tmp_path / "sql"
    shutil.copytree(migrations.SQL_DIRECTORY, until)
    for later in (until / "migrations" / "versions").glob("*.py"):
        if later.name >= "0006":
            later.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "SQL_DIRECTORY", until)
        assert migrate(bare_database)[-1] == "0005"
    execute(bare_database, 'drop role if exists "an analyst"')
    execute(bare_database, 'create role "an analyst"')
    execute(bare_database, 'grant select on roi.transactions_versions to "an analyst" with grant option')
    execute(bare_database, "grant select on roi.contacts_versions to public")
    assert migrate(bare_database) == REVISIONS[5:]
    granted = "select has_table_privilege('an analyst', %s, %s)"
    assert one(bare_database, granted, "roi.transactions_versions", "select with grant option")
    assert one(bare_database, granted, "roi.contacts_versions", "select")
    assert not one(bare_database, granted, "roi.documents_versions", "select")
    execute(bare_database, 'drop owned by "an analyst"')
    execute(bare_database, 'drop role "an analyst"')


def test_two_processes_that_migrate_at_once_both_end_well(bare_database: Database, sandbox: Sandbox) -> None:
    settings = environment(bare_database, sandbox)
    both = [
        ForkedProcess("softpro", "migrate", environment=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = sorted(process.communicate(timeout=60)[0].split()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said == ["ran", "up"]


def test_a_server_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"^The database can't be reached: "):
        migrate(Database("host=127.0.0.1 port=1 dbname=nowhere connect_timeout=2"))


@pytest.mark.parametrize("entity", list(EntityType))
@pytest.mark.parametrize(("schema", "types"), [("roi", ROI_TYPES), ("staging", STAGING_TYPES)])
def test_the_mapped_columns_are_those_of_the_tables(
    database: Database, entity: EntityType, schema: str, types: dict[Type, str]
) -> None:
    actual = columns_of(database, schema, entity.table)
    assert {column: actual.get(column) for column in COLUMNS[entity]} == {
        column: types[kind] for column, kind in COLUMNS[entity].items()
    }


@pytest.mark.parametrize("entity", list(EntityType))
def test_only_keys_and_the_products_own_timestamps_are_not_mapped(database: Database, entity: EntityType) -> None:
    own = {"id", "organization_id", entity.key, "softpro_created_at", "softpro_updated_at"}
    own |= {"created_at", "updated_at", "deleted_at", "mapping_version"}
    assert columns_of(database, "roi", entity.table).keys() - COLUMNS[entity].keys() == own


def test_every_table_names_the_organization_of_its_rows(database: Database) -> None:
    without = rows(
        database,
        """
        select c.oid::regclass::text as name
        from pg_class c
        where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text in ('softpro', 'raw', 'staging', 'roi')
          and not exists (
              select from pg_attribute a
              where a.attrelid = c.oid and a.attname = 'organization_id' and a.attnotnull and not a.attisdropped)
        """,
    )
    # The log's changes of the whole installation have none, nor have requests of strangers. The others hold users,
    # their calls, and locks.
    assert sorted(row["name"] for row in without) == [
        "softpro.audit_log",
        "softpro.known_users",
        "softpro.locks",
        "softpro.refusals",
        "softpro.schema_version",
        "softpro.sync_calls",
    ]


@pytest.mark.parametrize("table", ["transactions", "contacts", "transaction_parties", "properties", "documents"])
def test_every_synced_table_has_its_history_with_all_its_columns(database: Database, table: str) -> None:
    history = columns_of(database, "roi", f"{table}_history")
    assert history == columns_of(database, "roi", table) | {
        "valid_from": "timestamp with time zone",
        "valid_to": "timestamp with time zone",
        "changed_fields": "text[]",
    }
    assert columns_of(database, "roi", f"{table}_versions").keys() == history.keys()
