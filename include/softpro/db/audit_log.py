"""Record which user changed what, in the transaction of the change, and show it.

The HTTP API, the command line and the tasks that carry out a user's answer say who acts (`acting`). Functions that
change something call `record`. Changes that no user makes, such as those of a scheduled run, are not recorded here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from softpro.db import queries
from softpro.db.database import Connection
from softpro.json_codec import camel_case


class Source(StrEnum):
    """Where a user acts."""

    HTTP = "HTTP"
    COMMAND_LINE = "COMMAND_LINE"
    AIRFLOW = "AIRFLOW"


@dataclass(frozen=True)
class Actor:
    """A user who acts.

    Attributes:
        name: The user's name.
        source: Where the user acts.
        address: The client's network address over HTTP, the machine's name at the command line; None if unknown.
    """

    name: str
    source: Source
    address: str | None = None


@dataclass(frozen=True)
class Entry:
    """A row of `softpro.audit_log`.

    Attributes:
        login: The database login.
        action: The change, as `noun.verb`.
        subject: The id of the changed resource, beside the organization.
        before: The changed values before, without secrets.
        after: The changed values after, without secrets.
    """

    id: int
    at: datetime
    user_name: str
    source: str
    address: str | None
    login: str
    action: str
    organization_id: str | None
    subject: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """Return the entry for the command line and HTTP."""
        return {**camel_case(self), "before": self.before, "after": self.after}


COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Entry.__dataclass_fields__))

_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Attribute the changes within the block to a user."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


def record(
    connection: Connection,
    action: str,
    *,
    integration_id: UUID | None = None,
    subject: object = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    began_by: str | None = None,
) -> None:
    """Record a change of the acting user. Call it in the transaction of the change.

    Args:
        connection: The connection of the change.
        action: The change, as `noun.verb`.
        integration_id: The integration that changed; None for a change of the installation.
        subject: The id of the changed resource.
        before: The changed values before, as JSON, without secrets.
        after: The changed values after.
        began_by: The user who began the change, if a browser without a login finishes it.
    """
    actor = _actor.get() or (Actor(began_by, Source.HTTP) if began_by else None)
    if actor is None:
        return
    connection.execute(
        """
        insert into softpro.audit_log (user_name, source, address, action, organization_id, subject, before, after)
        values (%(name)s, %(source)s, %(address)s, %(action)s,
                (select organization_id from softpro.integrations where id = %(integration_id)s),
                %(subject)s, %(before)s, %(after)s)
        """,
        {
            "name": actor.name,
            "source": actor.source.value,
            "address": actor.address,
            "action": action,
            "integration_id": integration_id,
            "subject": None if subject is None else str(subject),
            "before": None if before is None else Jsonb(dict(before)),
            "after": None if after is None else Jsonb(dict(after)),
        },
    )


def page(
    connection: Connection,
    within: Collection[str] | None,
    *,
    organization: str | None = None,
    user: str | None = None,
    action: str | None = None,
    limit: int,
    offset: int,
) -> tuple[list[Entry], int]:
    """Return one page of the entries, newest first, and their total number.

    Args:
        connection: The database connection.
        within: Only these organizations, and no changes of the installation; None for all.
        organization: Only this organization.
        user: Only this user.
        action: Only this action.
        limit: The number of entries to return.
        offset: The number of entries to skip.
    """
    return queries.page(
        connection,
        Entry,
        columns=COLUMNS,
        source="""
            softpro.audit_log
            where (%(within)s::text[] is null or organization_id = any(%(within)s))
              and (%(organization)s::text is null or organization_id = %(organization)s)
              and (%(user)s::text is null or user_name = %(user)s)
              and (%(action)s::text is null or action = %(action)s)
            """,
        order="id desc",
        parameters={
            "within": None if within is None else list(within),
            "organization": organization,
            "user": user,
            "action": action,
        },
        limit=limit,
        offset=offset,
    )


def purge(connection: Connection, days: int) -> int:
    """Delete the entries that are more than `days` days old, in batches, and return their number.

    Call it in autocommit, so that each batch is a transaction.
    """
    return queries.delete_in_batches(
        connection,
        """
        delete from softpro.audit_log
        where id = any(array(
            select id from softpro.audit_log
            where at < now() - make_interval(days => %(days)s)
            order by id
            limit %(limit)s))
        """,
        {"days": days},
    )
