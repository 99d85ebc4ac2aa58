"""Keep a create exact when a process that was presumed dead continues late, or a look-up takes too long."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import pytest

from softpro.db.integrations import Integration
from softpro.errors import NetworkError, OutcomeUnknown, ValidationError
from softpro.services import Services
from softpro.softpro360.client import Client
from softpro.softpro360.creates import (
    CREATE_TIMEOUT_SECONDS,
)
from softpro.softpro360.transport import CONNECT_SECONDS, EXCHANGE_SECONDS, SILENCE_SECONDS

from ...support.creates import (
    LAG,
    count_created,
    create_once,
    lost_and_looked_for_once,
    now_due,
    sale,
)
from ...support.databases import one, rows
from ...support.sandbox import Sandbox


def completed_by_another(services: Services, acme: Integration) -> str:
    """Return the id that another process finds or creates after our time is over."""
    for _ in range(2):
        now_due(services)
        with suppress(OutcomeUnknown):
            return create_once(services, acme, sale("roi-1"))
    raise AssertionError


@pytest.mark.parametrize("end", ["refused", "lost", "made"])
def test_a_late_process_does_not_change_a_completed_create(
    services: Services, acme: Integration, own: Sandbox, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    first: list[str] = []

    def send_late(client: Client) -> str:
        first.append(completed_by_another(services, acme))
        if end == "refused":
            raise ValidationError("refused")
        if end == "lost":
            raise NetworkError("lost")
        return sale("roi-1").send(client)

    late = replace(sale("roi-1"), send=send_late)
    if end == "refused":
        with pytest.raises(ValidationError):
            create_once(services, acme, late)
    else:
        assert [create_once(services, acme, late)] == first
    assert [row["softpro_id"] for row in rows(services.database, "select softpro_id from softpro.creates")] == first
    assert ("created_twice" in caplog.messages) == (end == "made")


@pytest.mark.parametrize("end", ["refused", "lost"])
def test_a_late_process_does_not_change_a_claimed_create(
    services: Services, acme: Integration, own: Sandbox, end: str
) -> None:
    query = "select * from softpro.creates"
    claimed: list[dict[str, object]] = []

    def send_late(client: Client) -> str:
        now_due(services)
        with pytest.raises(OutcomeUnknown):
            create_once(services, acme, sale("roi-1"))
        claimed.extend(rows(services.database, query))
        raise ValidationError("refused") if end == "refused" else NetworkError("lost")

    with pytest.raises(ValidationError if end == "refused" else OutcomeUnknown) as failed:
        create_once(services, acme, replace(sale("roi-1"), send=send_late))
    assert rows(services.database, query) == claimed
    if isinstance(failed.value, OutcomeUnknown):
        assert failed.value.due_at == claimed[0]["due_at"]


def test_a_process_whose_look_up_took_too_long_does_not_send(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    first: list[str] = []

    def find_slowly(client: Client) -> list[str]:
        first.append(completed_by_another(services, acme))
        return []

    lost_and_looked_for_once(services, acme, own)
    now_due(services)
    assert [create_once(services, acme, replace(sale("roi-1"), find=find_slowly))] == first
    assert count_created(own) == {"roi-1": 1}


def test_a_second_send_has_as_much_time_as_the_first_however_slow_the_look_up(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    """The claim covers all of that time."""
    lost_and_looked_for_once(services, acme, own)
    now_due(services)
    wanted = sale("roi-1")

    def find_slowly(client: Client) -> list[str]:
        time.sleep(3)
        return wanted.find(client)

    def send(client: Client) -> str:
        left = one(services.database, "select extract(epoch from due_at - now())::float from softpro.creates")
        assert client.deadline is not None
        patience = client.deadline - time.monotonic()
        assert patience > CREATE_TIMEOUT_SECONDS - 2
        assert left > patience + CONNECT_SECONDS + EXCHANGE_SECONDS + SILENCE_SECONDS + LAG
        return wanted.send(client)

    create_once(services, acme, replace(wanted, find=find_slowly, send=send))
    assert count_created(own) == {"roi-1": 1}
