"""A circuit breaker per integration, shared by all processes: a vendor that is down is not hammered.

It opens after five calls in a row that failed after all their retries (no answer, or a 5xx; never a 4xx or 429), lets
one call try after a cool-down that doubles, and closes as soon as the vendor answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from softpro.db.database import Connection
from softpro.errors import CircuitOpen, SoftProAPIError
from softpro.timestamps import format_milliseconds

OPENS_AFTER = 5
COOL_DOWN = timedelta(seconds=30)
LONGEST_COOL_DOWN = timedelta(hours=1)
TRIAL = timedelta(minutes=2)
"""How long the call that tries may take before another one does."""


@dataclass(frozen=True)
class Admission:
    """A call that was let in. `failures` calls in a row failed before it; a `trial` is the one that tries."""

    failures: int
    trial: bool


@dataclass(frozen=True)
class Breaker:
    """An integration's circuit breaker. `connection` is in autocommit."""

    connection: Connection
    integration_id: UUID

    def admit(self) -> Admission:
        """Lets a call in. Raises CircuitOpen, with the reason and the time of the next try."""
        row = self.connection.execute(
            """
            select failures, opened_at, reason, next_try_at,
                   extract(epoch from next_try_at - now())::float8 as seconds
            from softpro.breakers
            where integration_id = %s
            """,
            [self.integration_id],
        ).fetchone()
        if row is None or row["opened_at"] is None:
            return Admission(row["failures"] if row else 0, False)
        if row["seconds"] <= 0 and self._tries():
            return Admission(row["failures"], True)
        raise CircuitOpen(
            f"SoftPro is not asked until {format_milliseconds(row['next_try_at'])}, "
            f"as {row['failures']} calls in a row failed: {row['reason']}",
            retry_after=max(row["seconds"], 1.0),
        )

    def succeeded(self, admission: Admission) -> None:
        """The vendor answered: what failed before is forgotten."""
        if admission.failures:
            self.connection.execute(
                """
                update softpro.breakers
                set failures = 0, opened_at = null, openings = 0, next_try_at = null, reason = null
                where integration_id = %s
                """,
                [self.integration_id],
            )

    def failed(self, admission: Admission, error: SoftProAPIError) -> None:
        """The call failed after all its retries. While the breaker is open only the one that tries counts."""
        self.connection.execute(
            """
            insert into softpro.breakers as b (integration_id, organization_id, failures, reason)
            select id, organization_id, 1, %(reason)s from softpro.integrations where id = %(id)s
            on conflict (integration_id) do update
            set failures = b.failures + 1, reason = excluded.reason
            where b.opened_at is null or %(trial)s
            """,
            {"id": self.integration_id, "reason": str(error), "trial": admission.trial},
        )
        self.connection.execute(
            """
            update softpro.breakers
            set opened_at = coalesce(opened_at, now()), openings = openings + 1,
                next_try_at = now() + least(%(longest)s, %(cool_down)s * 2 ^ least(openings, 20))
            where integration_id = %(id)s and failures >= %(opens_after)s and (opened_at is null or %(trial)s)
            """,
            {
                "id": self.integration_id,
                "longest": LONGEST_COOL_DOWN,
                "cool_down": COOL_DOWN,
                "opens_after": OPENS_AFTER,
                "trial": admission.trial,
            },
        )

    def spared(self, admission: Admission) -> None:
        """The vendor was not asked after all: where it was the one that tries, the next call does."""
        if admission.trial:
            self.connection.execute(
                "update softpro.breakers set next_try_at = now() where integration_id = %s and opened_at is not null",
                [self.integration_id],
            )

    def _tries(self) -> bool:
        """Whether this call is the one that tries: the others wait for what comes of it."""
        return bool(
            self.connection.execute(
                """
                update softpro.breakers set next_try_at = now() + %s
                where integration_id = %s and opened_at is not null and next_try_at <= now()
                """,
                [TRIAL, self.integration_id],
            ).rowcount
        )
