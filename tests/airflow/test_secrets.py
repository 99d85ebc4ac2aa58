"""Search all tables, logs and XComs for tokens and secrets after connecting and syncing (promise 10)."""

from __future__ import annotations

import base64
import json
import os
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from softpro.db import oauth_tokens
from softpro.db.encryption import Vault
from softpro.settings import parse_keys

from .conftest import Airflow


def spellings(secret: str) -> list[str]:
    """Return the secret as text, as hex, and as base64 in each of the three alignments within a longer text."""
    raw = secret.encode()
    encoded = []
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        encoded.append(whole[4 if shift else 0 : -2])
    urlsafe = [text.replace("+", "-").replace("/", "_") for text in encoded]
    return [secret, raw.hex(), raw.hex().upper(), *encoded, *urlsafe]


def test_no_table_log_or_xcom_holds_a_token_or_a_secret(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration = plugin.connect("secret-org", organization=airflow.vendor_organization())
    synced = plugin.session.post(f"{airflow.url}/sync/contacts", json={"integrationId": integration["id"]})
    assert synced.json()["data"]["success"]
    kept = json.loads((airflow.stack.home / "secrets.json").read_text())
    vault = Vault(parse_keys(kept["encryption_key"]))
    with airflow.stack.database.connect() as connection:
        grant = oauth_tokens.read(connection, vault, UUID(integration["id"]))
    assert grant.access_token
    assert grant.refresh_token
    secrets = [grant.access_token, grant.refresh_token, kept["client_secret"], kept["encryption_key"]]
    secrets.append(kept["webhook_secret"])
    wanted = [spelling for secret in secrets for spelling in spellings(secret)]

    for name, text in [*dumps(airflow), *log_files(airflow)]:
        for spelling in wanted:
            assert spelling not in text, f"{name} holds a secret"


def dumps(airflow: Airflow) -> list[tuple[str, str]]:
    """Return every table of the product's database and of Airflow's, as text."""
    found = []
    for database in ("softpro", "airflow"):
        conninfo = make_conninfo(airflow.stack.database.conninfo, dbname=database)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            tables = connection.execute(
                """
                select schemaname, tablename from pg_tables
                where schemaname not in ('pg_catalog', 'information_schema')
                """
            ).fetchall()
            assert len(tables) > 20
            for schema, table in tables:
                rows = connection.execute(
                    sql.SQL("select string_agg(t::text, E'\\n') from {} t").format(sql.Identifier(schema, table))
                ).fetchone()
                found.append((f"{database}: {schema}.{table}", (rows and rows[0]) or ""))
    return found


def log_files(airflow: Airflow) -> list[tuple[str, str]]:
    """Return every log of the components and of the tasks."""
    found = []
    for folder in ("logs", "airflow/logs", "postgres"):
        for directory, _, names in os.walk(airflow.stack.home / folder):
            found += [os.path.join(directory, name) for name in names if name.endswith(".log") or name == "log"]
    assert len(found) > 5
    texts = []
    for path in found:
        with open(path, encoding="utf-8", errors="replace") as file:
            texts.append((path, file.read()))
    return texts
