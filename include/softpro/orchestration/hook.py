"""The product's database as Airflow knows it: connection `softpro_postgres`."""

from __future__ import annotations

from typing import Any

from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk.exceptions import AirflowNotFoundException
from psycopg.conninfo import make_conninfo

from softpro.settings import DatabaseSettings, load
from softpro.store.database import Database, database_at, open_database

CONNECTION_ID = "softpro_postgres"
LIBPQ_EXTRAS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "channel_binding", "target_session_attrs")


def database() -> Database:
    """The database of the Airflow connection `softpro_postgres`; where there is none, of SOFTPRO_DATABASE_URL."""
    try:
        connection = PostgresHook(postgres_conn_id=CONNECTION_ID).get_connection(CONNECTION_ID)
    except AirflowNotFoundException:
        return open_database(*load(DatabaseSettings))
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
