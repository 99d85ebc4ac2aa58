"""Check in tasks what a user may do who started a run or answered a question through Airflow itself.

Airflow knows no organizations. The API server keeps each such user's teams and rights (`access_scopes.remember`), and
the tasks read them here. Runs without a user, such as scheduled ones, are not limited.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from softpro.db import access_scopes, audit_log, sync_logs, user_call_limit
from softpro.db.access_scopes import Scope
from softpro.db.audit_log import Actor, Source
from softpro.db.database import Connection
from softpro.errors import TooManyCalls
from softpro.settings import CallSettings, load


@dataclass(frozen=True)
class Start:
    """How a run was started.

    Attributes:
        run_id: The run's id.
        manual: A user started it, not the schedule.
        user: The user's name; None if Airflow knows none.
        params: The form.
    """

    run_id: str
    manual: bool
    user: str | None
    params: Mapping[str, Any]

    @classmethod
    def of(cls, context: Any) -> Start:
        """Return the start of a task's run, from the task's context.

        Raises:
            AirflowFailException: The run's conf has a key that the form does not have. A mistyped organization would
                otherwise mean all of them.
        """
        run = context["dag_run"]
        if unknown := sorted(set(run.conf or {}) - set(context["dag"].params)):
            raise AirflowFailException(
                f"The run's conf has unknown keys: {', '.join(unknown)}. Known are {', '.join(context['dag'].params)}"
            )
        return cls(run.run_id, run.run_type != "scheduled", run.triggering_user_name, dict(context["params"]))

    def scope(self, connection: Connection) -> Scope:
        """Return what the user may see and change, and count the run against the limit of the user's calls.

        Raises:
            AirflowException: The user starts too many runs.
        """
        if self.user is None:
            return access_scopes.UNLIMITED
        # A run that the HTTP API announced is counted already. A user can also choose the id of a run that has ended.
        if not any(entry.status == "PENDING" for entry in sync_logs.of_run(connection, self.run_id)):
            (limit,) = load(CallSettings)
            try:
                user_call_limit.count_call(connection, self.user, limit.sync_calls)
            except TooManyCalls as refused:
                raise AirflowException(str(refused)) from None
            with acting(self.user):
                audit_log.record(connection, "run.start", subject=self.run_id, after=self.params)
        return access_scopes.scope(connection, self.user)


def acting(user: str) -> AbstractContextManager[None]:
    """Attribute the changes within the block to a user of Airflow."""
    return audit_log.acting(Actor(user, Source.AIRFLOW))


def may_decide(connection: Connection, user: str, organization: str) -> bool:
    """Return whether the user who answered a question may decide about this organization."""
    return access_scopes.scope(connection, user).may_see(organization)
