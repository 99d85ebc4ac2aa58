"""Set up sessions of PostgreSQL: pin the settings on which the product depends, and check what the login may do.

A server, a database, a role, an environment variable and an address can set any of them otherwise. They are set by a
statement after connecting, because PgBouncer refuses or ignores most settings of the startup message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from psycopg import sql
from psycopg.rows import DictRow

from softpro.errors import DatabaseUnavailable, SettingsError

Settings = Mapping[str, str]

PINNED: Settings = {
    "client_encoding": "UTF8",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "search_path": "public",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "row_security": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "synchronous_commit": "on",
}
"""A `search_path` without `pg_temp` searches it first, so no table of a user shadows a temporary one. `public` serves
users' triggers."""

STATE = """
select {settings},
       has_database_privilege(current_database(), 'temporary') as temporary,
       coalesce(current_setting('softpro.embedded', true) = 'on', false) as embedded
"""
OPTION = re.compile(r"(?:-c\s*|--)([A-Za-z_][\w.-]*)=((?:\\.|\S)*)(?:\s+|$)")


def statement(settings: Settings) -> bytes:
    """Return the statement that pins the settings and applies these. Its row tells what the session may do."""
    calls = [
        sql.SQL("set_config({}, {}, false) as {}").format(sql.Literal(name), sql.Literal(value), sql.Identifier(name))
        for name, value in {**PINNED, **settings}.items()
    ]
    return sql.SQL(STATE).format(settings=sql.SQL(", ").join(calls)).as_bytes(None)


def require(state: DictRow, *, login: str, superuser: bool) -> None:
    """Check that a session may do what the product needs.

    Args:
        state: the row of the statement that set it up.
        login: the login, for the message.
        superuser: the login is a superuser.

    Raises:
        SettingsError: the login is a superuser, and the server is not the embedded one, which starts with no other.
        DatabaseUnavailable: the session can't create temporary tables.
    """
    if superuser and not state["embedded"]:
        raise SettingsError(
            [
                f"The database login {login} is a superuser, whom no right confines: use another one. "
                "Only `python -m softpro migrate` may be one, by SOFTPRO_MIGRATE_DATABASE_URL"
            ]
        )
    if not state["temporary"]:
        raise DatabaseUnavailable(
            f"The database login {login} may not create temporary tables. Let an administrator execute: "
            f"grant temporary on database … to {login}"
        )


def parse_options(options: str, variable: str) -> dict[str, str]:
    """Return the settings in `options` of an address, by name.

    Args:
        options: the option of libpq, such as `-c work_mem=64MB`.
        variable: the setting that holds the address, for the message.

    Raises:
        SettingsError: an option is no setting, or sets one that the product pins.
    """
    found, at = {}, 0
    for match in OPTION.finditer(options.strip()):
        if match.start() != at:
            break
        name, value = match[1].lower().replace("-", "_"), re.sub(r"\\(.)", r"\1", match[2])
        if name in PINNED:
            raise SettingsError(
                [f"{variable} is wrong: its options set {name}, which must be {PINNED[name]}: remove it from options"]
            )
        found[name], at = value, match.end()
    if at != len(options.strip()):
        raise SettingsError([f"{variable} is wrong: options should be settings, such as -c work_mem=64MB"])
    return found
