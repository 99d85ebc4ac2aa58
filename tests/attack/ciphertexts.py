"""Tamper with the ciphertext of every encrypted column, in the database, and try to decrypt it as the product does."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from functools import partial

from psycopg import sql

from softpro.connections.key_rotation import SEALED_TABLES, Cell, cells
from softpro.db.encryption import Vault
from softpro.errors import DecryptionError

from ..support.databases import execute
from .attempts import SEED, Attempt, Verdict
from .target import Target

FLIPS, CUTS = 16, 6
OTHER_KEY = b"another key, which opens nothing"


def attempts(target: Target, extra_keys: tuple[bytes, ...] = ()) -> Iterator[Attempt]:
    """Yield every tampering with every cell, and for each cell the control that it opens untouched.

    Args:
        target: the running product.
        extra_keys: further keys with which the product tries to decrypt.
    """
    vault = Vault(target.services.vault.keys + extra_keys)
    fill(target)
    with target.database.connect() as connection:
        found = list(cells(connection))
    for cell in found:
        yield Attempt("untouched", str(cell.place), partial(_untouched, target, vault, cell), control=True)
        for kind, tampered in _tampered(cell, found):
            assert tampered != cell.sealed
            yield Attempt(kind, f"{cell.place}: {tampered[:24]}", partial(_open, target, vault, cell, tampered))


def fill(target: Target) -> None:
    """Give every encrypted column a secret, so that each of them is attacked."""
    vault = target.services.vault
    with target.database.connect() as connection:
        for cell in list(cells(connection)):
            if cell.place.column == "client_secret" and cell.place.table.endswith("integrations"):
                place = type(cell.place)(cell.place.table, "next_client_secret", cell.place.row)
                connection.execute(
                    "update softpro.integrations set next_client_id = 'next', next_client_secret = %s where id = %s",
                    [vault.seal("the next secret", place), cell.place.row],
                )
        filled = {(cell.place.table, cell.place.column) for cell in cells(connection)}
    assert filled == {(table.name, column) for table in SEALED_TABLES for column in table.columns}, filled
    target.state.keep()


def _tampered(cell: Cell, others: list[Cell]) -> Iterator[tuple[str, str]]:
    version, key_id, body = cell.sealed.split(".")
    sealed, chosen = base64.urlsafe_b64decode(body), random.Random(f"{SEED} {cell.place.column}")

    def written(data: bytes) -> str:
        return f"{version}.{key_id}.{base64.urlsafe_b64encode(data).decode()}"

    for at, bit in zip(chosen.sample(range(len(sealed)), FLIPS), chosen.choices(range(8), k=FLIPS), strict=True):
        yield "flipped bit", written(bytes([*sealed[:at], sealed[at] ^ 1 << bit, *sealed[at + 1 :]]))
    for length in range(1, CUTS + 1):
        yield "cut at the end", written(sealed[: -(length**2)])
        yield "cut at the start", written(sealed[length**2 :])
    for length in (0, 1, 11, 12, 27, 28):
        yield "cut to a few bytes", written(sealed[:length])
    yield "extended", written(sealed + b"\0")
    yield "extended", written(b"\0" + sealed)
    yield "reordered", written(sealed[::-1])
    yield "reordered", written(sealed[12:] + sealed[:12])
    yield "zero nonce", written(bytes(12) + sealed[12:])
    yield "zero tag", written(sealed[:-16] + bytes(16))
    yield "another nonce", written(chosen.randbytes(12) + sealed[12:])
    for other in others:
        if other.place != cell.place:
            row = "row" if other.place.row != cell.place.row else "column"
            yield f"from another {row}", other.sealed
            mixed = base64.urlsafe_b64decode(other.sealed.split(".")[2])
            yield "two mixed", written(sealed[:12] + mixed[12:])
    for name in ("00000000", key_id[::-1], key_id.upper() + "0", "", "../" + key_id, key_id + "\u200b"):
        yield "another key id", f"{version}.{name}.{body}"
    for name in ("v0", "v2", "V1", "", " v1", "v1 "):
        yield "another version", f"{name}.{key_id}.{body}"
    yield "sealed with another key", Vault((OTHER_KEY,)).seal("forged", cell.place)
    yield (
        "sealed with another key",
        f"{version}.{key_id}." + Vault((OTHER_KEY,)).seal("forged", cell.place).split(".")[2],
    )
    yield from (("no ciphertext", text) for text in ("", "plain text", "v1", "v1..", f"{version}.{key_id}.", "null"))
    for spelled in (
        f"{body[:8]}!{body[8:]}",
        f"{body[:8]}\n{body[8:]}",
        f" {body}",
        body.replace("=", "") + "====",
        f"{body}.{body}",
        _other_bits(body),
    ):
        yield "spelled in another way", f"{version}.{key_id}.{spelled}"


def _other_bits(body: str) -> str:
    """Return the base64 with other bits in its last letter, which the decoded bytes do not need; else a longer one."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    bare = body.rstrip("=")
    if len(bare) == len(body):
        return body + "A==="
    return bare[:-1] + letters[letters.index(bare[-1]) ^ 1] + "=" * (len(body) - len(bare))


def _open(target: Target, vault: Vault, cell: Cell, tampered: str) -> Verdict:
    """Write the text into the cell, and decrypt the cell as the product reads it."""
    _write(target, cell, tampered)
    try:
        with target.database.connect() as connection:
            [read] = [each for each in cells(connection) if (each.place, each.key) == (cell.place, cell.key)]
        vault.open(read.sealed, read.place)
    except DecryptionError:
        return Verdict("refused")
    finally:
        _write(target, cell, cell.sealed)
    return Verdict("opened", f"{tampered[:60]} opened")


def _untouched(target: Target, vault: Vault, cell: Cell) -> Verdict:
    opened = vault.open(cell.sealed, cell.place)
    return Verdict("opened", "" if opened else "it is empty")


def _write(target: Target, cell: Cell, text: str) -> None:
    query = sql.SQL("update {} set {} = %s where {} = %s").format(
        sql.Identifier(*cell.place.table.split(".")),
        sql.Identifier(cell.place.column),
        sql.Identifier(cell.key_column),
    )
    execute(target.database, query, text, cell.key)
