"""Connect to PostgreSQL in one way for the command line, the tasks and the plugin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row

from softpro.errors import DatabaseBusy, DatabaseUnavailable, SchemaError, SettingsError
from softpro.settings import STATE_DIRECTORY, DatabaseSettings

if TYPE_CHECKING:
    from pydantic import SecretStr
    from sqlalchemy import URL

Connection = psycopg.Connection[DictRow]

CONNECT_TIMEOUT_SECONDS = 10
OLD_SCHEMA = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)


@dataclass(frozen=True)
class Database:
    """The database of the product's tables.

    Attributes:
        conninfo: a libpq connection string, hidden because it may contain a password.
        superuser: the login may be a superuser, to migrate. No right and no row-level security confines a superuser.
    """

    conninfo: str = field(repr=False)
    superuser: bool = False

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Yield a connection in autocommit, rows as dicts, UTC; open transactions with `.transaction()`.

        Raises:
            DatabaseUnavailable: the server refuses the connection or the session ends.
            DatabaseBusy: a lock or a statement took longer than the session's timeouts.
            SchemaError: migrations are missing.
            SettingsError: the login is a superuser, and the server is not the embedded one.
        """
        try:
            with self._session() as connection:
                if not self.superuser:
                    _require_plain_login(connection)
                yield connection
        except OLD_SCHEMA as old:
            raise SchemaError(
                f"The database lacks the product's tables ({_first_line(old)}): run `python -m softpro migrate`"
            ) from old
        except psycopg.errors.LockNotAvailable as held:
            raise DatabaseBusy("Another request or a run works on this now: try again in a few seconds") from held
        except psycopg.errors.QueryCanceled as slow:
            raise DatabaseBusy(f"The database takes too long ({_first_line(slow)}): try again later") from slow
        except psycopg.OperationalError as failed:
            problem = "closed the connection" if _is_gone(failed) else "refuses the request"
            raise DatabaseUnavailable(f"The database {problem}: {_first_line(failed)}") from failed
        except psycopg.errors.InsufficientPrivilege as forbidden:
            raise DatabaseUnavailable(f"The database refuses the request: {_first_line(forbidden)}") from forbidden

    def require_plain_login(self) -> None:
        """Check the login once, for connections that are opened in another way. Raises the errors of `connect`."""
        with self.connect():
            pass

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        try:
            connection = psycopg.connect(self.conninfo, autocommit=True, row_factory=dict_row)
        except psycopg.OperationalError as refused:
            raise DatabaseUnavailable(f"The database can't be reached: {_first_line(refused)}") from None
        with connection:
            yield connection

    def set(self, **settings: str) -> Database:
        """Return the same database with these run-time settings in each session; their values contain no spaces."""
        options = str(conninfo_to_dict(self.conninfo).get("options") or "")
        more = [f"-c {name}={value}" for name, value in settings.items()]
        return replace(self, conninfo=make_conninfo(self.conninfo, options=" ".join([options, *more]).strip()))

    def named(self, application: str) -> Database:
        """Return the same database with this name for each session in `pg_stat_activity`."""
        return replace(self, conninfo=make_conninfo(self.conninfo, application_name=application))

    def sqlalchemy_url(self) -> URL:
        """Return the address for SQLAlchemy, with which Alembic and Great Expectations connect."""
        from sqlalchemy import URL

        parameters: dict[str, Any] = conninfo_to_dict(self.conninfo)
        return URL.create(
            "postgresql+psycopg",
            username=parameters.pop("user", None),
            password=parameters.pop("password", None),
            database=parameters.pop("dbname", None),
            query={name: str(value) for name, value in parameters.items()},
        )


@contextmanager
def disable_planner_nodes(connection: Connection, kind: Literal["nestloop", "seqscan"]) -> Iterator[None]:
    """Disable a kind of plan node during the block, in a transaction.

    Use it if PostgreSQL can't know the size of a table, or its growth during the statement. Otherwise it could scan the
    whole table for each record.
    """
    setting = sql.Identifier(f"enable_{kind}")
    connection.execute(sql.SQL("set local {} = off").format(setting))
    yield
    connection.execute(sql.SQL("set local {} to default").format(setting))


def database_at(address: str, variable: str = "SOFTPRO_DATABASE_URL") -> Database:
    """Return the database at a libpq address or connection string. Raises SettingsError if libpq can't read it."""
    try:
        return Database(
            make_conninfo(
                address, connect_timeout=CONNECT_TIMEOUT_SECONDS, application_name="softpro", options="-c timezone=UTC"
            )
        )
    except psycopg.ProgrammingError:
        raise SettingsError(
            [f"{variable} is wrong: it should be a libpq address such as postgresql://user@host/database"]
        ) from None


def open_database(settings: DatabaseSettings) -> Database:
    """Return the database that the settings name, or else start the embedded one below `.softpro/`."""
    if settings.database_url is None:
        from softpro.db.embedded import start

        return start(STATE_DIRECTORY / "postgres")
    return database_at(settings.database_url.get_secret_value())


def open_web_database(settings: DatabaseSettings) -> Database | None:
    """Return the database with the login of the API server, or None if it has none of its own."""
    return _own(settings.web_url, "SOFTPRO_WEB_DATABASE_URL")


def open_migration_database(settings: DatabaseSettings) -> Database | None:
    """Return the database with the login that migrates, or None if it has none of its own."""
    return _own(settings.migrate_url, "SOFTPRO_MIGRATE_DATABASE_URL")


def _own(address: SecretStr | None, variable: str) -> Database | None:
    return None if address is None else database_at(address.get_secret_value(), variable)


def _require_plain_login(connection: Connection) -> None:
    """Check that the login is no superuser. The server reports that when a session begins.

    Raises:
        SettingsError: it is one, and the server is not the embedded one, which starts with no other login.
    """
    if connection.info.parameter_status("is_superuser") == "on":
        marked = connection.execute("select current_setting('softpro.embedded', true) as embedded").fetchone()
        if marked is None or marked["embedded"] != "on":
            raise SettingsError(
                [
                    f"The database login {connection.info.user} is a superuser, whom no right confines: use another "
                    "one. Only `python -m softpro migrate` may be one, by SOFTPRO_MIGRATE_DATABASE_URL"
                ]
            )


def _is_gone(error: psycopg.Error) -> bool:
    """Return whether the session ended (SQLSTATE 08…, 57P…, or none in libpq's own errors)."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
