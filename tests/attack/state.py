"""Compare the tables with a kept copy of them, and restore them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from softpro.db.database import Connection

from ..support.databases import tables

IGNORED = ("budget_requests", "sync_calls", "refusals", "locks", "audit_log", "schema_version", "known_users")
"""Counts of calls and refusals, locks, and what the server notes about its own work."""

PLACE = "select pg_current_wal_insert_lsn()::text as place"
COLUMNS = """
select table_schema as schema, table_name as name,
       array_agg(column_name::text order by ordinal_position) filter (where is_generated = 'NEVER') as columns,
       bool_or(column_name = 'organization_id') as has_organization
from information_schema.columns
group by table_schema, table_name
"""


@dataclass(frozen=True)
class Changes:
    """The tables that differ from the copy, in rows of the caller's organization and in others."""

    own: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.own or self.others)

    def __str__(self) -> str:
        return ", ".join(sorted(self.own | self.others))


NOTHING = Changes()


class State:
    """The product's tables, and a copy of them in temporary tables of this session.

    Args:
        connection: a superuser's session.
        organization: the caller's organization, whose rows the caller may change.
    """

    def __init__(self, connection: Connection, organization: str) -> None:
        self._connection = connection
        described = {(row["schema"], row["name"]): row for row in connection.execute(COLUMNS).fetchall()}
        self._tables = {
            f"{schema}.{name}": described[schema, name] for schema, name in tables(connection) if name not in IGNORED
        }
        self._digests = sql.SQL(" union all ").join(
            _digest(name, organization, has_organization=row["has_organization"]) for name, row in self._tables.items()
        )
        self.keep()

    def keep(self) -> None:
        """Copy all tables as they are now."""
        for name in self._tables:
            self._connection.execute(sql.SQL("drop table if exists {}").format(_copy(name)))
            self._connection.execute(sql.SQL("create temporary table {} as table {}").format(_copy(name), _table(name)))
        self._kept, self._place = self._read(), self._position()

    def changes(self) -> Changes:
        """Return what changed since the copy. Without a write to the log of the database, nothing did."""
        place = self._position()
        if place == self._place:
            return NOTHING
        found, self._place = self._read(), place
        return Changes(
            frozenset(name for name, (own, _) in found.items() if own != self._kept[name][0]),
            frozenset(name for name, (_, others) in found.items() if others != self._kept[name][1]),
        )

    def restore(self, changes: Changes) -> None:
        """Give the changed tables the content of their copies."""
        self._restore(changes.own | changes.others)
        self._place = self._position()

    def _restore(self, names: Iterable[str]) -> None:
        with self._connection.transaction():
            self._connection.execute(
                "set local session_replication_role = replica"
            )  # without triggers and foreign keys
            for name in names:
                columns = sql.SQL(", ").join(map(sql.Identifier, self._tables[name]["columns"]))
                self._connection.execute(sql.SQL("delete from {}").format(_table(name)))
                self._connection.execute(
                    sql.SQL(
                        "insert into {table} ({columns}) overriding system value select {columns} from {copy}"
                    ).format(table=_table(name), columns=columns, copy=_copy(name))
                )

    def _position(self) -> str:
        return str(self._row(PLACE)["place"])

    def _read(self) -> dict[str, tuple[str, str]]:
        found = self._connection.execute(self._digests).fetchall()
        return {row["name"]: (row["own"], row["others"]) for row in found}

    def _row(self, query: Any) -> dict[str, Any]:
        [row] = self._connection.execute(query).fetchall()
        return row


def _digest(name: str, organization: str, *, has_organization: bool) -> sql.Composed:
    owner = sql.SQL("t.organization_id::text") if has_organization else sql.SQL("null::text")
    return sql.SQL(
        """
        select {name} as name,
               md5(coalesce(string_agg(t::text, '|' order by t::text)
                            filter (where {owner} is not distinct from {own}), '')) as own,
               md5(coalesce(string_agg(t::text, '|' order by t::text)
                            filter (where {owner} is distinct from {own}), '')) as others
        from {table} t
        """
    ).format(name=name, owner=owner, own=organization, table=_table(name))


def _table(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split("."))


def _copy(name: str) -> sql.Identifier:
    return sql.Identifier("pg_temp", "copy_of_" + name.replace(".", "_"))
