"""Encrypt every sealed cell again with the first encryption key, while other work continues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from softpro.db import audit_log
from softpro.db.database import Connection
from softpro.db.encryption import Place, Vault
from softpro.db.integrations import TABLE as INTEGRATIONS
from softpro.errors import DecryptionError

BATCH_ROWS = 200


@dataclass(frozen=True)
class SealedTable:
    """A table with sealed columns; `row` is the column with the id that is bound into them (`Place.row`)."""

    name: str
    key: str
    row: str
    columns: tuple[str, ...]


SEALED_TABLES = (
    SealedTable(INTEGRATIONS, "id", "id", ("client_secret", "next_client_secret", "access_token", "refresh_token")),
    SealedTable("softpro.oauth_states", "state_hash", "integration_id", ("client_secret", "code_verifier")),
)


@dataclass(frozen=True)
class Cell:
    """A sealed cell as it was read."""

    place: Place
    organization_id: str
    key_column: str
    key: Any
    sealed: str = field(repr=False)


@dataclass
class Rotation:
    """The result of a key rotation.

    Attributes:
        total: the number of cells read.
        reencrypted: the number of cells written.
        remaining: the number of cells not under the first key at the end. They are unopenable, or a process with
            another first key wrote them during the rotation.
        by_key: the number of cells under each key.
        unopenable: the cells that no key opens, with the reason.
    """

    total: int = 0
    reencrypted: int = 0
    remaining: int = 0
    by_key: list[int] = field(default_factory=list)
    unopenable: list[tuple[Cell, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {
            "total": self.total,
            "reencrypted": self.reencrypted,
            "remaining": self.remaining,
            "byKey": self.by_key,
            "unopenable": [
                {"table": cell.place.table, "column": cell.place.column, "organizationId": cell.organization_id}
                for cell, _ in self.unopenable
            ],
        }


def rotate(connection: Connection, vault: Vault, progress: Callable[[int, int], None]) -> Rotation:
    """Seal every cell with the vault's first key, unless it is sealed with that key already.

    Each cell is its own transaction, and is written only if it still holds the value read. So a token refreshed in
    between stays.

    Args:
        progress: called with the number of cells done and the total.
    """
    rotation = Rotation()
    expected = sum(1 for _ in cells(connection))
    for cell in cells(connection):
        rotation.total += 1
        try:
            rotation.reencrypted += _reseal(connection, vault, cell)
        except DecryptionError as closed:
            rotation.unopenable.append((cell, str(closed)))
        progress(rotation.total, max(expected, rotation.total))
    counts = Counter(vault.key_of(cell.sealed) for cell in cells(connection))
    rotation.by_key = [counts[index] for index in range(len(vault.keys))]
    rotation.remaining = counts.total() - counts[0]
    if rotation.reencrypted:
        counted = {"reencrypted": rotation.reencrypted, "remaining": rotation.remaining}
        audit_log.record(connection, "keys.rotate", after=counted)
    return rotation


def cells(connection: Connection) -> Iterator[Cell]:
    """Yield every sealed cell in key order, reading the rows in batches."""
    for table in SEALED_TABLES:
        after = None
        while rows := _batch(connection, table, after):
            for row in rows:
                for column in table.columns:
                    if row[column] is not None:
                        place = Place(table.name, column, row["place"])
                        yield Cell(place, row["organization_id"], table.key, row["key"], row[column])
            after = rows[-1]["key"]


def _batch(connection: Connection, table: SealedTable, after: Any) -> list[dict[str, Any]]:
    """Return the next rows after this key, or the first ones for None."""
    query = sql.SQL(
        """
        select {key} as key, {row} as place, organization_id, {columns}
        from {table}
        {after}
        order by {key}
        limit {rows}
        """
    ).format(
        key=sql.Identifier(table.key),
        row=sql.Identifier(table.row),
        columns=sql.SQL(", ").join(map(sql.Identifier, table.columns)),
        table=sql.Identifier(*table.name.split(".")),
        after=sql.SQL("where {} > {}").format(sql.Identifier(table.key), after) if after else sql.SQL(""),
        rows=BATCH_ROWS,
    )
    return connection.execute(query).fetchall()


def _reseal(connection: Connection, vault: Vault, cell: Cell) -> bool:
    """Seal the cell again and return whether it was written. Raises DecryptionError if no key opens it."""
    names = {
        "table": sql.Identifier(*cell.place.table.split(".")),
        "column": sql.Identifier(cell.place.column),
        "key": sql.Identifier(cell.key_column),
    }
    read = sql.SQL("select {column} as sealed from {table} where {key} = %s").format(**names)
    write = sql.SQL("update {table} set {column} = %s where {key} = %s and {column} = %s").format(**names)
    sealed: str | None = cell.sealed
    while sealed is not None:
        secret = vault.open(sealed, cell.place)  # current cells too, so that a damaged one is reported
        if vault.is_current(sealed):
            return False
        if connection.execute(write, [vault.seal(secret, cell.place), cell.key, sealed]).rowcount:
            return True
        row = connection.execute(read, [cell.key]).fetchone()  # refreshed, erased or deleted since it was read
        sealed = row["sealed"] if row else None
    return False
