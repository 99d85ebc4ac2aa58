"""Set up PostgreSQL's roles: which role owns the tables, and which may write rows.

* `softpro_owner` owns schemas, tables and functions. It can't log in and is no superuser.
* `softpro_web` may read and write rows, but not change tables. The API server's login is a member.
* `softpro_application` may name the user for whom it edits `roi`, by the setting `softpro.user`.

See docs/design/security.md#roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from softpro.db import queries
from softpro.db.database import Connection, Database
from softpro.errors import DatabaseUnavailable

OWNER, WEB, APPLICATION = "softpro_owner", "softpro_web", "softpro_application"
SCHEMAS = ("softpro", "raw", "staging", "roi", "analytics")
PURPOSES = {
    OWNER: "Owns the tables and functions of the SoftPro 360 integration",
    WEB: "Reads and writes rows as the API server of the SoftPro 360 integration does",
    APPLICATION: "May name the user for whom it edits roi",
}

# Objects of the login that migrates; for a superuser also those of other superusers, who migrated before.
SELECT_TO_HAND_OVER = """
with former as (
    select r.oid from pg_roles r, pg_roles me
    where me.rolname = session_user and (r.oid = me.oid or (me.rolsuper and r.rolsuper))
)
select 'schema' as kind, nspname as schema, null as name, null as arguments
from pg_namespace where nspname = any(%(schemas)s) and nspowner in (select oid from former)
union all
select case relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' else 'table' end,
       nspname, relname, null
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where nspname = any(%(schemas)s) and relkind in ('r', 'p', 'v', 'm', 'S') and relowner in (select oid from former)
  -- the sequence of a column follows its table
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
                  and relkind = 'S' and d.deptype in ('a', 'i'))
union all
select 'routine', nspname, proname, pg_get_function_identity_arguments(p.oid)
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where nspname = any(%(schemas)s) and proowner in (select oid from former)
union all
select 'domain', nspname, typname, null
from pg_type t
join pg_namespace n on n.oid = t.typnamespace
where nspname = any(%(schemas)s) and typtype = 'd' and typowner in (select oid from former)
"""


def prepare(connection: Connection, members: Mapping[str, Database]) -> None:
    """Create the roles, their members and the schemas, and hand the existing objects to the owner.

    Args:
        connection: a session in autocommit of the login that migrates.
        members: the database as the product opens it, by the role of which that login is to be a member.

    Raises:
        DatabaseUnavailable: this login may not do that; the message has the statements for an administrator.
    """
    left = [statement for statement in _statements(connection, members) if not _execute(connection, statement)]
    if left:
        raise DatabaseUnavailable(
            "This login may not set up the database's roles. Let an administrator of the server execute, then migrate "
            f"again: {'; '.join(_without_password(connection, statement) for statement in left)}"
        )
    for schema in SCHEMAS:
        # `if not exists` would require the right to create one even if it exists.
        if not connection.execute("select from pg_namespace where nspname = %s", [schema]).rowcount:
            create = sql.SQL("create schema if not exists {} authorization {}")
            connection.execute(create.format(sql.Identifier(schema), sql.Identifier(OWNER)))
    for each in connection.execute(SELECT_TO_HAND_OVER, {"schemas": list(SCHEMAS)}).fetchall():
        named = sql.Identifier(*(part for part in (each["schema"], each["name"]) if part is not None))
        arguments = sql.SQL("" if each["arguments"] is None else f"({each['arguments']})")  # as the catalog quotes them
        connection.execute(
            sql.SQL("alter {} {}{} owner to {}").format(sql.SQL(each["kind"]), named, arguments, sql.Identifier(OWNER))
        )


def _statements(connection: Connection, members: Mapping[str, Database]) -> Iterator[sql.Composed]:
    """Yield the statements that are needed, each checked after those before it were executed."""
    own = str(queries.value(connection, "select session_user::text"))
    for role, purpose in PURPOSES.items():
        if not _exists(connection, role):
            yield sql.SQL("create role {} nologin").format(sql.Identifier(role))
            yield sql.SQL("comment on role {} is {}").format(sql.Identifier(role), sql.Literal(purpose))
    if not _is_member(connection, OWNER, WEB):
        yield sql.SQL("grant {} to {}").format(sql.Identifier(WEB), sql.Identifier(OWNER))
    logins = {role: _login(database) for role, database in members.items()}
    for role, login in {OWNER: own, **logins}.items():
        if not _exists(connection, login):
            yield _create_login(connection, login, members[role])
    for role, login in [(OWNER, own), *logins.items()]:
        if not _is_member(connection, login, role):
            yield sql.SQL("grant {} to {} with inherit true, set true").format(
                sql.Identifier(role), sql.Identifier(login)
            )
    if len({own, *logins.values()}) > 1:
        for login in sorted(logins.values()):
            # Shows if the session that holds a lease or a lock still exists, whichever login opened it.
            if not _is_member(connection, login, "pg_read_all_stats"):
                yield sql.SQL("grant pg_read_all_stats to {}").format(sql.Identifier(login))
    for login in sorted({*logins.values()}):
        query = "select has_database_privilege(%s, current_database(), 'connect, temporary') as may"
        if _exists(connection, login) and not queries.value(connection, query, [login]):
            database = sql.Identifier(str(queries.value(connection, "select current_database()")))
            yield sql.SQL("grant connect, temporary on database {} to {}").format(database, sql.Identifier(login))


def _create_login(connection: Connection, login: str, database: Database) -> sql.Composed:
    """Return the statement that creates a login with the password of its address, which only the client sees."""
    create = sql.SQL("create role {} login").format(sql.Identifier(login))
    password = conninfo_to_dict(database.conninfo).get("password")
    if not password:
        return create
    verifier = connection.pgconn.encrypt_password(str(password).encode(), login.encode(), b"scram-sha-256").decode()
    return create + sql.SQL(" password {}").format(sql.Literal(verifier))


def _execute(connection: Connection, statement: sql.Composed) -> bool:
    """Execute a statement and return whether this login may. Roles belong to all databases of the server."""
    try:
        connection.execute(statement)
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return True  # a migration of another database was faster
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject):
        return False
    return True


def _exists(connection: Connection, role: str) -> bool:
    return bool(connection.execute("select from pg_roles where rolname = %s", [role]).rowcount)


def _is_member(connection: Connection, login: str, role: str) -> bool:
    """Return whether the login has the role's rights; a superuser has them all."""
    query = """
        select from pg_roles m, pg_roles r
        where m.rolname = %s and r.rolname = %s and pg_has_role(m.oid, r.oid, 'member')
    """
    return bool(connection.execute(query, [login, role]).rowcount)


def _login(database: Database) -> str:
    """Return the login of an address, by libpq's defaults if it names none."""
    given = conninfo_to_dict(database.conninfo).get("user")
    if given:
        return str(given)
    defaults = {option.keyword: option.val for option in psycopg.pq.Conninfo.get_defaults()}
    return (defaults[b"user"] or b"").decode()


def _without_password(connection: Connection, statement: sql.Composed) -> str:
    text, password, _ = statement.as_string(connection).partition(" password ")
    return f"{text} password '…'" if password else text
