"""Confine users and teams to organizations. A user in no confinement, and in no confined team, sees all of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from psycopg import sql

from softpro.db import audit_log, queries
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


@dataclass(frozen=True)
class Scope:
    """What a user may see and change.

    Attributes:
        organizations: The organizations to which the user is confined; None for all.
        may_configure: The user has the right to configure.
    """

    organizations: frozenset[str] | None
    may_configure: bool

    def may_see(self, organization: str) -> bool:
        """Return whether the user may see the organization."""
        return self.organizations is None or organization in self.organizations


UNLIMITED = Scope(None, may_configure=True)


def remember(connection: Connection, user: str, teams: Collection[str], *, may_configure: bool) -> None:
    """Keep a user's teams and rights for tasks, which can't ask Airflow's auth manager."""
    connection.execute(
        """
        insert into softpro.known_users as k (user_name, teams, may_configure)
        values (%(user)s, %(teams)s, %(may_configure)s)
        on conflict (user_name) do update
        set teams = excluded.teams, may_configure = excluded.may_configure, seen_at = now()
        where (k.teams, k.may_configure) is distinct from (excluded.teams, excluded.may_configure)
        """,
        {"user": user, "teams": sorted(teams), "may_configure": may_configure},
    )


def scope(connection: Connection, user: str) -> Scope:
    """Return the scope of a user by the teams and rights that were kept.

    A user of whom nothing was kept did not come through the API server, but has a shell of Airflow's machines. Only a
    confinement of the user's own name applies.
    """
    known = connection.execute(
        "select teams, may_configure from softpro.known_users where user_name = %s", [user]
    ).fetchone()
    if known is None:
        return Scope(organizations(connection, user, ()), may_configure=True)
    return Scope(organizations(connection, user, known["teams"]), may_configure=known["may_configure"])


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
            select organization_id from softpro.confinements
            where subject_kind = %(kind)s and subject = %(subject)s
              and (%(within)s::text[] is null or organization_id = any(%(within)s))
            order by organization_id
            """,
            stream,
        ).fetchall()
        before = [row["organization_id"] for row in known]
        if within is not None and not (before and chosen):
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
        audit_log.record(
            connection,
            "access.update",
            subject=f"{kind.value} {subject}",
            before={"organizations": before},
            after={"organizations": chosen},
        )
    return Confinement(kind, subject, chosen)


def _listed(within: Collection[str] | None) -> list[str] | None:
    return None if within is None else list(within)
