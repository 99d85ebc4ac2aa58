"""Stop calling a vendor that is down: one circuit breaker per integration, shared by all processes.

It opens after five calls in a row that failed after all retries (no response or a 5xx, never a 4xx). It then admits one
trial call after each cool-down, which doubles, and closes as soon as the vendor responds.
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
MAX_COOL_DOWN = timedelta(hours=1)
TRIAL_TIMEOUT = timedelta(minutes=2)
"""The time after which another call may become the trial."""


@dataclass(frozen=True)
class Admission:
    """A call that was admitted after this many `failures` in a row. `trial` marks the trial call of an open breaker."""

    failures: int
    trial: bool


@dataclass(frozen=True)
class Breaker:
    """An integration's circuit breaker. `connection` is in autocommit."""

    connection: Connection
    integration_id: UUID

    def admit(self) -> Admission:
        """Admit a call.

        Raises:
            CircuitOpen: with the reason and the time of the next trial.
        """
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
        if row["seconds"] <= 0 and self._claim_trial():
            return Admission(row["failures"], True)
        raise CircuitOpen(
            f"No call to SoftPro until {format_milliseconds(row['next_try_at'])}, "
            f"because {row['failures']} calls in a row failed: {row['reason']}",
            retry_after=max(row["seconds"], 1.0),
        )

    def succeeded(self, admission: Admission) -> None:
        """Reset the breaker, because the vendor responded."""
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
        """Count a call that failed after all its retries. An open breaker counts only the trial call."""
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
                "longest": MAX_COOL_DOWN,
                "cool_down": COOL_DOWN,
                "opens_after": OPENS_AFTER,
                "trial": admission.trial,
            },
        )

    def release(self, admission: Admission) -> None:
        """Release an admitted call that was not sent. After a trial call, the next call becomes the trial."""
        if admission.trial:
            self.connection.execute(
                "update softpro.breakers set next_try_at = now() where integration_id = %s and opened_at is not null",
                [self.integration_id],
            )

    def _claim_trial(self) -> bool:
        """Return whether this call is the trial; the others wait for its result."""
        return bool(
            self.connection.execute(
                """
                update softpro.breakers set next_try_at = now() + %s
                where integration_id = %s and opened_at is not null and next_try_at <= now()
                """,
                [TRIAL_TIMEOUT, self.integration_id],
            ).rowcount
        )
