"""Confine users and teams to organizations. A user in no confinement, and in no confined team, sees all of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from psycopg import sql

from softpro.db import queries
from softpro.db.database import Connection
from softpro.db.integrations import validate_organization
from softpro.errors import Forbidden, UsageError

MAX_SUBJECT_CHARACTERS = 256
MAX_ORGANIZATIONS = 1_000


class SubjectKind(StrEnum):
    """The kind of a subject: a user, or a team or role of Airflow's auth manager."""

    USER = "USER"
    TEAM = "TEAM"


@dataclass(frozen=True)
class Confinement:
    """A subject and the organizations that it is confined to."""

    kind: str
    subject: str
    organizations: list[str]

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "subject": self.subject, "organizations": self.organizations}

    def line(self) -> str:
        allowed = ", ".join(self.organizations) or "every organization"
        return f"{self.kind.lower()} {self.subject}: {allowed}"


def organizations(connection: Connection, user: str, teams: Collection[str]) -> frozenset[str] | None:
    """Return the organizations that this user, a member of these teams, may see; None for all.

    They are the organizations to which the user or any of the teams is confined.
    """
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
    """Return one page of the confinements, by kind and name, and their total number.

    Args:
        within: only show these organizations; None for all.
    """
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


def is_confined(connection: Connection, kind: SubjectKind, subject: str) -> bool:
    """Return whether the subject has a confinement."""
    query = "select from softpro.confinements where subject_kind = %s and subject = %s limit 1"
    return bool(connection.execute(query, [kind.value, subject]).rowcount)


def confine(
    connection: Connection,
    kind: SubjectKind,
    subject: str,
    wanted: Collection[str],
    *,
    by: str,
    within: Collection[str] | None = None,
) -> Confinement:
    """Confine the subject to these organizations, or end its confinement if there are none.

    A confined user can only change the part of a confinement that they see. So they can neither begin nor end one,
    because that would affect organizations that they do not see.

    Args:
        wanted: the organizations.
        by: the user who decides.
        within: the organizations that this user may see; None for all.

    Returns:
        The confinement, as far as `within` shows it.

    Raises:
        UsageError: the subject or an organization is invalid.
        Forbidden: the user is confined, and would begin or end a confinement.
    """
    if not (1 <= len(subject) <= MAX_SUBJECT_CHARACTERS and subject.isprintable()):
        raise UsageError(f"A user or team is named by 1 to {MAX_SUBJECT_CHARACTERS} printable characters")
    if len(wanted) > MAX_ORGANIZATIONS:
        raise UsageError(f"At most {MAX_ORGANIZATIONS} organizations can be named")
    chosen = sorted({validate_organization(organization) for organization in wanted})
    stream = {"kind": kind.value, "subject": subject, "wanted": chosen, "within": _listed(within), "by": by}
    with connection.transaction():
        connection.execute("lock table softpro.confinements in share row exclusive mode")  # one decision at a time
        known = connection.execute(
            """
            select from softpro.confinements
            where subject_kind = %(kind)s and subject = %(subject)s
              and (%(within)s::text[] is null or organization_id = any(%(within)s))
            """,
            stream,
        ).rowcount
        if within is not None and not (known and chosen):
            raise Forbidden(
                "You are confined to organizations yourself: ask a user who is not confined to begin or end "
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
    return Confinement(kind, subject, chosen)


def _listed(within: Collection[str] | None) -> list[str] | None:
    return None if within is None else list(within)
