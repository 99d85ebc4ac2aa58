"""Another encryption key: every sealed cell is sealed anew with the first one, while work goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from softpro.db.database import Connection
from softpro.db.encryption import Place, Vault
from softpro.db.integrations import TABLE as INTEGRATIONS
from softpro.errors import DecryptionError

BATCH_ROWS = 200


@dataclass(frozen=True)
class SealedTable:
    """A table with sealed columns; `row` is the column whose id is bound into them (`Place.row`)."""

    name: str
    key: str
    row: str
    columns: tuple[str, ...]


SEALED = (
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
    """What was done: `total` cells were seen and `reencrypted` of them written.

    `unopenable` says why a cell was left, and `remaining` how many cells are not under the first key at the end: those,
    and what a process with another first key has written meanwhile. `by_key` counts the cells under each of the keys.
    """

    total: int = 0
    reencrypted: int = 0
    remaining: int = 0
    by_key: list[int] = field(default_factory=list)
    unopenable: list[tuple[Cell, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same as one JSON object."""
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
    """Seals every cell with the vault's first key that is not sealed with it yet; `progress` is told (done, total).

    Each cell is a transaction of its own, and is written only while it still holds what was read: a token that was
    refreshed meanwhile stays.
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
    held = Counter(vault.key_of(cell.sealed) for cell in cells(connection))
    rotation.by_key = [held[place] for place in range(len(vault.keys))]
    rotation.remaining = held.total() - held[0]
    return rotation


def cells(connection: Connection) -> Iterator[Cell]:
    """Every sealed cell, in the order of the keys, in batches of rows that are read when their turn comes."""
    for table in SEALED:
        after = None
        while rows := _batch(connection, table, after):
            for row in rows:
                for column in table.columns:
                    if row[column] is not None:
                        place = Place(table.name, column, row["place"])
                        yield Cell(place, row["organization_id"], table.key, row["key"], row[column])
            after = rows[-1]["key"]


def _batch(connection: Connection, table: SealedTable, after: Any) -> list[dict[str, Any]]:
    """The next rows after this key (None: the first ones)."""
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
    """Whether the cell was written. Raises DecryptionError where no key opens it."""
    names = {
        "table": sql.Identifier(*cell.place.table.split(".")),
        "column": sql.Identifier(cell.place.column),
        "key": sql.Identifier(cell.key_column),
    }
    read = sql.SQL("select {column} as sealed from {table} where {key} = %s").format(**names)
    write = sql.SQL("update {table} set {column} = %s where {key} = %s and {column} = %s").format(**names)
    sealed: str | None = cell.sealed
    while sealed is not None:
        secret = vault.open(sealed, cell.place)  # also of what is current, so that a damaged one is named
        if vault.is_current(sealed):
            return False
        if connection.execute(write, [vault.seal(secret, cell.place), cell.key, sealed]).rowcount:
            return True
        row = connection.execute(read, [cell.key]).fetchone()  # refreshed, erased or deleted since it was read
        sealed = row["sealed"] if row else None
    return False
