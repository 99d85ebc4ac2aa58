"""Who is confined to which organizations. Somebody who is named nowhere, nor a team of theirs, may see all of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from psycopg import sql

from softpro.db import queries
from softpro.db.database import Connection
from softpro.db.integrations import checked_organization
from softpro.errors import Forbidden, UsageError

LONGEST_SUBJECT = 256
MOST_ORGANIZATIONS = 1_000


class Kind(StrEnum):
    """What a subject names: a user, or what Airflow's auth manager calls a team or a role."""

    USER = "USER"
    TEAM = "TEAM"


@dataclass(frozen=True)
class Confinement:
    """A subject, and all organizations that it is confined to."""

    kind: str
    subject: str
    organizations: list[str]

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "subject": self.subject, "organizations": self.organizations}

    def line(self) -> str:
        allowed = ", ".join(self.organizations) or "every organization"
        return f"{self.kind.lower()} {self.subject}: {allowed}"


def organizations(connection: Connection, user: str, teams: Collection[str]) -> frozenset[str] | None:
    """What this user, a member of these teams, may see: what any of them is confined to; None for all of it."""
    found = connection.execute(
        """
        select organization_id
        from softpro.confinements
        where (subject_kind = 'USER' and subject = %(user)s) or (subject_kind = 'TEAM' and subject = any(%(teams)s))
        """,
        {"user": user, "teams": list(teams)},
    ).fetchall()
    return frozenset(row["organization_id"] for row in found) or None


def confinements(
    connection: Connection, within: Collection[str] | None, limit: int, offset: int
) -> tuple[list[Confinement], int]:
    """Who is confined, by kind and name, and how many there are in all: as far as it is about organizations `within`
    (None: any), others left out."""
    return queries.page(
        connection,
        Confinement,
        columns=sql.SQL("kind, subject, organizations"),
        source="""
            (select subject_kind as kind, subject,
                    array_agg(organization_id::text order by organization_id) as organizations
             from softpro.confinements
             where %(within)s::text[] is null or organization_id = any(%(within)s)
             group by subject_kind, subject) confined
            """,
        order="kind, subject",
        parameters={"within": _listed(within)},
        limit=limit,
        offset=offset,
    )


def is_confined(connection: Connection, kind: Kind, subject: str) -> bool:
    """Whether the subject is named in any confinement."""
    query = "select from softpro.confinements where subject_kind = %s and subject = %s limit 1"
    return bool(connection.execute(query, [kind.value, subject]).rowcount)


def confine(
    connection: Connection,
    kind: Kind,
    subject: str,
    wanted: Collection[str],
    *,
    by: str,
    within: Collection[str] | None = None,
) -> Confinement:
    """From now on the subject may see these organizations only, or, of none, every one. Returns what `within` shows.

    `within`: what whoever decides may see; None for all. The rest of a confinement stays as it is, so nobody confined
    can end one, or begin one: that would be about organizations they do not see. Raises UsageError, Forbidden.
    """
    if not (1 <= len(subject) <= LONGEST_SUBJECT and subject.isprintable()):
        raise UsageError(f"A user or team is named by 1 to {LONGEST_SUBJECT} printable characters")
    if len(wanted) > MOST_ORGANIZATIONS:
        raise UsageError(f"At most {MOST_ORGANIZATIONS} organizations can be named")
    asked = sorted({checked_organization(organization) for organization in wanted})
    stream = {"kind": kind.value, "subject": subject, "wanted": asked, "within": _listed(within), "by": by}
    with connection.transaction():
        connection.execute("lock table softpro.confinements in share row exclusive mode")  # two decide one by one
        known = connection.execute(
            """
            select from softpro.confinements
            where subject_kind = %(kind)s and subject = %(subject)s
              and (%(within)s::text[] is null or organization_id = any(%(within)s))
            """,
            stream,
        ).rowcount
        if within is not None and not (known and asked):
            raise Forbidden(
                "You are confined to organizations yourself: only somebody who is not can begin or end "
                "the confinement of others"
            )
        connection.execute(
            """
            delete from softpro.confinements
            where subject_kind = %(kind)s and subject = %(subject)s and not organization_id = any(%(wanted)s)
              and (%(within)s::text[] is null or organization_id = any(%(within)s))
            """,
            stream,
        )
        connection.execute(
            """
            insert into softpro.confinements (subject_kind, subject, organization_id, created_by)
            select %(kind)s, %(subject)s, organization_id, %(by)s
            from unnest(%(wanted)s::text[]) w (organization_id)
            on conflict do nothing
            """,
            stream,
        )
    return Confinement(kind, subject, asked)


def _listed(within: Collection[str] | None) -> list[str] | None:
    return None if within is None else list(within)
