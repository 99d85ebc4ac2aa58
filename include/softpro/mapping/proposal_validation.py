"""Validate proposed mapping sets, also by what only PostgreSQL knows, before they are saved or previewed."""

from __future__ import annotations

from collections import Counter

import psycopg

from softpro.db.database import Connection
from softpro.errors import MappingError
from softpro.mapping import patterns
from softpro.mapping.document import MAX_MAPPINGS
from softpro.mapping.set_validation import validate
from softpro.mapping.upsert import Upsert

PATTERN_TIMEOUT = "1s"
"""How long PostgreSQL may take to read a pattern."""


def require_valid(connection: Connection, proposed: Upsert) -> None:
    """Validate sets, including their patterns, which PostgreSQL has to be able to read.

    Raises:
        MappingError: with every problem.
    """
    sizes = Counter(mapping.entity_type for mapping in proposed.mappings)
    problems = [
        f"the set of {entity_type.table} would have {size:,} mappings, and at most {MAX_MAPPINGS:,} are possible"
        for entity_type, size in sizes.items()
        if size > MAX_MAPPINGS
    ]
    if problems:
        raise MappingError(problems)
    try:
        validate(proposed.mappings, proposed.names)
    except MappingError as refused:
        problems = refused.problems
    problems = [*problems, *_unreadable(connection, proposed)]
    if problems:
        raise MappingError(problems)


def _unreadable(connection: Connection, proposed: Upsert) -> list[str]:
    """Return the problems that PostgreSQL has with the patterns of the validation rules."""
    problems: list[str] = []
    for name, mapping in zip(proposed.names, proposed.mappings, strict=True):
        pattern = (mapping.validation_rules or {}).get("pattern")
        if not isinstance(pattern, str) or patterns.problem(pattern):  # already reported
            continue
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("select set_config('statement_timeout', %s, true)", [PATTERN_TIMEOUT])
                connection.execute("select '' ~ %s", [pattern])
        except psycopg.errors.QueryCanceled:
            problems.append(f"{name}: validationRules.pattern takes PostgreSQL too long to read")
        except UnicodeEncodeError:  # half a surrogate pair, already reported
            continue
        except psycopg.DataError as wrong:
            why = str(wrong).splitlines()[0]
            problems.append(f"{name}: validationRules.pattern can't be read by PostgreSQL: {why}")
    return problems
