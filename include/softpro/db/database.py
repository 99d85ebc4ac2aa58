"""Connect to PostgreSQL in one way for the command line, the tasks and the plugin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row

from softpro.db import session
from softpro.db.sqlstate import describe
from softpro.errors import DatabaseBusy, DatabaseUnavailable, SchemaError, SettingsError
from softpro.settings import STATE_DIRECTORY, DatabaseSettings

if TYPE_CHECKING:
    from pydantic import SecretStr
    from sqlalchemy import Engine

Connection = psycopg.Connection[DictRow]
AsyncConnection = psycopg.AsyncConnection[DictRow]

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
        settings: run-time settings of each session, besides those that the product pins.
    """

    conninfo: str = field(repr=False)
    superuser: bool = False
    settings: session.Settings = field(default_factory=dict, hash=False)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Yield a connection in autocommit, rows as dicts, UTC; open transactions with `.transaction()`.

        Raises:
            DatabaseUnavailable: the server refuses the connection, the session ends, or it can only read.
            DatabaseBusy: a lock or a statement took longer than the session's timeouts.
            SchemaError: migrations are missing.
            SettingsError: the login is a superuser, and the server is not the embedded one.
        """
        try:
            with self._session() as connection:
                yield connection
        except OLD_SCHEMA as old:
            raise SchemaError(
                f"The database lacks the product's tables ({describe(old)}): run `python -m softpro migrate`"
            ) from old
        except psycopg.errors.LockNotAvailable as held:
            raise DatabaseBusy("Another request or a run works on this now: try again in a few seconds") from held
        except psycopg.errors.QueryCanceled as slow:
            raise DatabaseBusy(f"The database takes too long ({describe(slow)}): try again later") from slow
        except psycopg.OperationalError as failed:
            problem = "closed the connection" if _is_gone(failed) else "refuses the request"
            raise DatabaseUnavailable(f"The database {problem}: {describe(failed)}") from failed
        except psycopg.errors.ReadOnlySqlTransaction as read_only:
            raise DatabaseUnavailable(
                "The database is read-only: it is a standby server, or default_transaction_read_only is on. "
                "Name the primary server in the address"
            ) from read_only
        except psycopg.errors.InsufficientPrivilege as forbidden:
            raise DatabaseUnavailable(f"The database refuses the request: {describe(forbidden)}") from forbidden

    def require_plain_login(self) -> None:
        """Check the login once, for connections that are opened in another way. Raises the errors of `connect`."""
        with self.connect():
            pass

    @cached_property
    def _setup(self) -> bytes:
        """Return the statement that sets up a session, composed once."""
        return session.statement(self.settings)

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        try:
            connection = psycopg.connect(self.conninfo, autocommit=True, row_factory=dict_row)
        except psycopg.OperationalError as refused:
            raise DatabaseUnavailable(f"The database can't be reached: {describe(refused)}") from None
        with connection:
            self._begin(connection)
            yield connection

    def _begin(self, connection: Connection) -> None:
        """Set up a new session, and check what it may do."""
        [state] = connection.execute(self._setup).fetchall()
        superuser = not self.superuser and connection.info.parameter_status("is_superuser") == "on"
        session.require(state, login=connection.info.user, superuser=superuser)

    async def open_async(self, *, prepare_threshold: int = 5, **parameters: Any) -> AsyncConnection:
        """Return an asynchronous connection like that of `connect`. Its login is not checked.

        Args:
            prepare_threshold: the number of executions after which psycopg prepares a statement.
            parameters: more parameters of libpq.

        Raises:
            psycopg.Error: the server can't be reached, or refuses the session.
        """
        connection = await psycopg.AsyncConnection.connect(
            make_conninfo(self.conninfo, **parameters),
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=prepare_threshold,
        )
        try:
            await connection.execute(self._setup)
        except BaseException:
            await connection.close()
            raise
        return connection

    def set(self, **settings: str) -> Database:
        """Return the same database, not pooled, with these run-time settings in each session."""
        return Database(self.conninfo, self.superuser, {**self.settings, **settings})

    def named(self, application: str) -> Database:
        """Return the same database, not pooled, with this name for each session in `pg_stat_activity`."""
        return Database(make_conninfo(self.conninfo, application_name=application), self.superuser, self.settings)

    def engine(self, **options: Any) -> Engine:
        """Return an engine of SQLAlchemy, with which Alembic and Great Expectations connect. Dispose of it."""
        from sqlalchemy import URL, create_engine, event

        parameters: dict[str, Any] = conninfo_to_dict(self.conninfo)
        url = URL.create(
            "postgresql+psycopg",
            username=parameters.pop("user", None),
            password=parameters.pop("password", None),
            database=parameters.pop("dbname", None),
            query={name: str(value) for name, value in parameters.items()},
        )
        engine = create_engine(url, **options)

        @event.listens_for(engine, "connect")
        def begin(connection: Any, _record: object) -> None:
            autocommit, connection.autocommit = connection.autocommit, True
            connection.execute(self._setup)
            connection.autocommit = autocommit

        return engine


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
        parameters: dict[str, Any] = conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        raise SettingsError(
            [f"{variable} is wrong: it should be a libpq address such as postgresql://user@host/database"]
        ) from None
    settings = session.parse_options(str(parameters.pop("options", "")), variable)
    named = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "application_name": "softpro"}
    return Database(make_conninfo("", **{**named, **parameters}), settings=settings)


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


def _is_gone(error: psycopg.Error) -> bool:
    """Return whether the session ended (SQLSTATE 08…, 57P…, or none in libpq's own errors)."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
