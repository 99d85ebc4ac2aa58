"""Run transform alone: it ends on errors and with several sessions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from threading import Thread

import pytest

from softpro.entities import EntityType
from softpro.mapping import repository
from softpro.mapping.compiler import Compiled, Mapped, map_records
from softpro.mapping.mapping import Mapping
from softpro.mapping.rules.evaluator import Rules
from softpro.mapping.rules.messages import Evaluated
from softpro.runs import pipeline
from softpro.services import Services
from softpro.sync import pending_records, transform

from ..support.databases import one
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import Connected
from ..support.product import begin, sync
from ..support.sandbox import Sandbox


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_the_middle_of_the_records_ends_it_at_once(
    connected: Connected,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    """The records still stream when the error comes. An open stream would keep its connection locked for ever."""
    integration, ended = connected("acme"), []
    with services.database.connect() as connection:
        for_python_alone = [Mapping(EntityType.TRANSACTION, 'no"tes', "notes")]
        repository.replace(connection, integration.id, "acme", for_python_alone, "test")
    run = begin(services, integration)
    pipeline.extract(services, run)

    def broken(
        compiled: Compiled, payloads: Iterable[tuple[bytes, Evaluated | None]], rules: Rules
    ) -> Iterator[Mapped]:
        yield next(map_records(compiled, payloads, rules))
        raise error("in the middle")

    monkeypatch.setattr(transform, "map_records", broken)
    monkeypatch.setattr(pending_records, "FETCH_SIZE", 1)

    def work() -> None:
        try:
            pipeline.transform(services.database, run)
        except (RuntimeError, KeyboardInterrupt) as failed:
            ended.append(type(failed))

    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert ended == [error]
    pipeline.fail(services.database, run, RuntimeError("broken"))
    monkeypatch.undo()
    assert sync(services, integration).status == "COMPLETED"
    assert one(services.database, "select count(*) from roi.transactions") == 45


@pytest.mark.parametrize("worth_halving", [1, 1_000])
def test_two_sessions_that_stage_a_half_each_stage_all_and_map_what_is_odd(
    connected: Connected,
    services: Services,
    sandbox: Sandbox,
    vendor_organization: str,
    monkeypatch: pytest.MonkeyPatch,
    worth_halving: int,
) -> None:
    monkeypatch.setattr(transform, "MIN_PARALLEL_RECORDS", worth_halving)
    for number in range(20):
        odd = {
            "orderId": f"odd-{number}",
            "updatedAt": "2030-01-01T00:00:00.000Z",
            "openedDate": "2025-03-01T00:00:00Z",
        }
        sandbox.put(vendor_organization, json.dumps(odd).encode())
        sandbox.put(vendor_organization, json.dumps({**odd, "orderId": f"bad-{number}", "openedDate": "soon"}).encode())
    log = sync(services, connected("acme"))
    assert (log.records_processed, log.records_failed) == (85, 20)
    records = sandbox.records(vendor_organization, "TRANSACTION")
    good = {order_id: record for order_id, record in records.items() if not order_id.startswith("bad")}
    assert actual_rows(services.database, "acme") == expected_rows(good)
