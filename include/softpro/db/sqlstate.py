"""Describe errors of PostgreSQL without values of rows, which messages of constraints, casts and triggers can carry."""

from __future__ import annotations

import psycopg

OWN_WORDS = ("08", "28", "3D", "53", "54", "57", "58", "0A", "25", "40", "42", "55")
"""Classes of errors about connections, resources, names, rights and locks. Their messages carry names, no values."""
RAISING = ("pl_", "plpy", "plperl", "pltcl")
"""The beginnings of the source files of procedural languages, whose errors are in a function's own words."""


def describe(error: psycopg.Error) -> str:
    """Return the first line of the message if it carries no values, else the name and the place of the error."""
    if error.sqlstate is None:  # an error of libpq or of the client
        return _first_line(error)
    if error.sqlstate.startswith(OWN_WORDS) and not (error.diag.source_file or "").startswith(RAISING):
        return _first_line(error)
    diag = error.diag
    table = ".".join(filter(None, (diag.schema_name, diag.table_name)))
    places = {"constraint": diag.constraint_name, "table": table, "column": diag.column_name}
    place = "".join(f", {kind} {name}" for kind, name in places.items() if name)
    return f"{type(error).__name__} (SQLSTATE {error.sqlstate}){place}"


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
