"""Open the product's database through the Airflow connection `softpro_postgres`."""

from __future__ import annotations

import os
from typing import Any

from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException
from psycopg.conninfo import make_conninfo

from softpro.db.database import Database, database_at, open_database, open_web_database
from softpro.errors import SettingsError
from softpro.settings import DatabaseSettings, load

CONNECTION_ID = "softpro_postgres"
VARIABLE = f"AIRFLOW_CONN_{CONNECTION_ID.upper()}"
LIBPQ_EXTRAS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "channel_binding", "target_session_attrs", "options")


def database() -> Database:
    """Open the database of the Airflow connection `softpro_postgres`, or else of SOFTPRO_DATABASE_URL.

    Raises:
        SettingsError: Neither is set, or one is wrong.
    """
    try:
        connection = PostgresHook(postgres_conn_id=CONNECTION_ID).get_connection(CONNECTION_ID)
    except AirflowNotFoundException:
        return _from_settings(f"Airflow has no connection {CONNECTION_ID}")
    return _from_connection(connection)


def api_server_database() -> Database:
    """Open the database with the API server's own login of SOFTPRO_WEB_DATABASE_URL, or else as tasks do."""
    (addresses,) = load(DatabaseSettings)
    return open_web_database(addresses) or database()


def database_from_environment() -> Database:
    """Open the database that the environment names, for the triggerer, which can read only the environment.

    Uses the connection in AIRFLOW_CONN_SOFTPRO_POSTGRES, or else SOFTPRO_DATABASE_URL.

    Raises:
        SettingsError: Neither is set, or one is wrong.
    """
    if defined := os.environ.get(VARIABLE):
        try:
            if defined.lstrip().startswith("{"):
                return _from_connection(Connection.from_json(defined, CONNECTION_ID))
            return _from_connection(Connection.from_uri(defined, CONNECTION_ID))
        except (AirflowException, TypeError, ValueError):
            raise SettingsError([f"{VARIABLE} is wrong: it must be a connection, as JSON or a URI"]) from None
    return _from_settings(f"{VARIABLE} is not set, and a trigger sees no other connection")


def _from_settings(why: str) -> Database:
    """Open the database of SOFTPRO_DATABASE_URL. A service never starts the embedded one, which others do not share.

    Raises:
        SettingsError: It is not set, or it is wrong.
    """
    (addresses,) = load(DatabaseSettings)
    if addresses.database_url is None:
        raise SettingsError([f"The product has no database: {why}, and SOFTPRO_DATABASE_URL is not set"])
    return open_database(addresses)


def _from_connection(connection: Connection) -> Database:
    extras = connection.extra_dejson
    parameters: dict[str, Any] = {
        "host": connection.host,
        "port": connection.port,
        "user": connection.login,
        "password": connection.password,
        "dbname": connection.schema,
        **{name: extras[name] for name in LIBPQ_EXTRAS if name in extras},
    }
    return database_at(make_conninfo("", **{name: value for name, value in parameters.items() if value}))
