"""Waste time with mapping rules; a budget per run, a time slice per organization and a cancelled preview end it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import psutil
import pytest

from softpro.analysis import preview as previews
from softpro.analysis.preview import RecordSelection, preview
from softpro.db import schedule
from softpro.db.integrations import Integration
from softpro.db.leases import Run
from softpro.entities import EntityType
from softpro.errors import UsageError
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.mapping.rules.account import RUN_SECONDS, STOP_SECONDS, RuleBudget
from softpro.mapping.rules.evaluator import evaluating
from softpro.mapping.rules.messages import NOT_TRIED, Evaluated, Evaluation, Rule
from softpro.mapping.rules.supervisor import POLL_SECONDS
from softpro.orchestration.sync import MAX_TRANSFORMS
from softpro.runs import pipeline
from softpro.runs.tenant_pool import map_tenants
from softpro.services import Services
from softpro.sync.transform import Transformed
from softpro.webhooks.worker import drain

from ..support.databases import execute, one, rows
from ..support.fixture_types import Connected
from ..support.product import begin

TRANSACTION = EntityType.TRANSACTION
HOSTILE = '$length($pad("",100000000))'
TIMED_OUT = "($f := function() { $f() }; $f())"
BUSY = "$count($filter([1..3000], function($v) { $v % 3 = 0 }))"
"""Takes some milliseconds, so it is neither slow nor stopped."""
STOPS = int(RUN_SECONDS / STOP_SECONDS)
UNFIT_FOR_SQL = Mapping(TRANSACTION, 'no"tes', "notes", "SOFTPRO_TO_ROI")
SELECT_DUE = "select load_due_at, next_attempt_at from softpro.cursors where entity_type = 'TRANSACTION'"
COUNT_PENDING = "select count(*) from raw.pending where entity_type = 'TRANSACTION'"


def ruled(*rules: str) -> list[Mapping]:
    """Return the default set, with further targets that these rules fill."""
    more = [
        Mapping(TRANSACTION, "orderId", f"custom.rule_{number}", "SOFTPRO_TO_ROI", rule)
        for number, rule in enumerate(rules)
    ]
    return [*default_mappings(TRANSACTION), *more]


def give(services: Services, integration: Integration, mappings: list[Mapping]) -> None:
    with services.database.connect() as connection:
        repository.replace(connection, integration.id, integration.organization_id, mappings, "a test")


def evaluate(rules: list[str], records: int, budget: RuleBudget | None = None) -> list[Evaluated]:
    with evaluating([Rule(rule, 0, None, {}) for rule in rules], budget) as evaluator:
        return list(evaluator.evaluate(Evaluation([str(number)]) for number in range(records)))


def stopped(evaluated: list[Evaluated]) -> int:
    """Return how many evaluations were stopped or timed out."""
    return sum(message != NOT_TRIED for each in evaluated for message in each.failures.values())


@pytest.mark.parametrize("hostile", [HOSTILE, TIMED_OUT])
def test_all_rules_and_all_restarts_of_a_run_share_one_budget(hostile: str) -> None:
    evaluated = evaluate([hostile, "$", hostile, hostile, hostile], 100)
    assert stopped(evaluated) == STOPS
    assert [each.results[1] for each in evaluated] == [str(number) for number in range(100)]


def test_a_run_that_evaluates_in_parts_has_one_budget() -> None:
    budget, found = RuleBudget(), []
    for _ in range(6):
        found += evaluate([HOSTILE, "$"], 20, budget)
    assert stopped(found) <= 2 * STOPS
    assert budget.spent <= 2 * budget.seconds


def test_many_rules_that_are_hostile_once_are_given_up_together() -> None:
    assert stopped(evaluate([HOSTILE] * 20, 3)) == 2 * STOPS


def test_a_deadline_ends_the_evaluation_after_some_records() -> None:
    with evaluating([Rule(BUSY, 0, None, {})], RuleBudget(deadline=time.monotonic())) as rules:
        evaluated = list(rules.evaluate(Evaluation([str(number)]) for number in range(10_000)))
        assert rules.ended
    assert 0 < len(evaluated) < 10_000
    assert {each.results[0] for each in evaluated} == {"1000"}


def test_records_that_skip_all_rules_pass_after_the_deadline() -> None:
    """A transform reads its records again to map those that failed, and lost them if the first reading was late."""
    budget = RuleBudget(deadline=time.monotonic())
    with evaluating([Rule("$", 0, None, {})], budget) as rules:
        assert [each.results for each in rules.evaluate([Evaluation(["1"])])] == [["1"]]
        time.sleep(3 * POLL_SECONDS)  # the process is ended
        known = (Evaluation([], [0]) for _ in range(600))
        assert len(list(rules.evaluate(known))) == 600


def test_a_cancelled_evaluation_ends_at_once_with_its_process() -> None:
    before = set(psutil.Process().children())
    cancelled = Event()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(evaluate, [BUSY], 100_000, RuleBudget(cancelled=cancelled.is_set))
        time.sleep(1)
        cancelled.set()
        assert len(found.result(timeout=5)) < 100_000
    assert set(psutil.Process().children()) <= before


def test_four_hostile_rules_of_an_organization_delay_a_shard_by_seconds(
    services: Services, connected: Connected
) -> None:
    """Each of them was stopped ten times, one organization after the other."""
    bad, good = connected("bad"), connected("good")
    give(services, bad, ruled(*[HOSTILE] * 4))
    give(services, good, ruled("$uppercase($)"))
    runs = [begin(services, integration) for integration in (bad, good)]
    for run in runs:
        pipeline.extract(services, run)
    ended: dict[str, float] = {}
    began = time.monotonic()

    def transform(runs: list[Run]) -> list[Transformed]:
        deadline = time.monotonic() + pipeline.RULE_SLICE_SECONDS
        done = [pipeline.transform(services.database, run, RuleBudget(deadline=deadline)) for run in runs]
        ended[runs[0].organization_id] = time.monotonic() - began
        return done

    done = map_tenants(runs, transform, lambda run: run.integration_id, MAX_TRANSFORMS)

    assert [(each.staged, each.rejected) for each in done] == [(0, 45), (45, 0)]
    assert ended["good"] < ended["bad"]
    with services.database.connect() as connection:
        assert schedule.with_slow_rules(connection) == {bad.id}
    messages = rows(
        services.database,
        "select reason ->> 'message' as message from staging.rejects, jsonb_array_elements(reasons) reason",
    )
    assert sum(NOT_TRIED not in row["message"] for row in messages) == STOPS


@pytest.mark.parametrize("more", [[], [UNFIT_FOR_SQL]], ids=["in PostgreSQL", "in Python"])
def test_records_that_the_rules_had_no_time_for_are_loaded_later(
    services: Services, acme: Integration, more: list[Mapping]
) -> None:
    defaults = [each for each in ruled(*[BUSY] * 12) if not more or each.roi_systems_field != "notes"]
    give(services, acme, [*defaults, *more])
    left, runs = [45], 0
    while left[-1]:
        run = begin(services, acme)
        pipeline.extract(services, run)
        budget = RuleBudget(deadline=time.monotonic())
        transformed = pipeline.transform(services.database, run, budget)
        pipeline.check(services.database, run, services.quality)
        pipeline.load(services.database, run)
        log = pipeline.finish(services.database, run)
        assert (log.status, log.records_processed) == ("COMPLETED", transformed.staged)
        left.append(int(one(services.database, COUNT_PENDING)))
        [cursor] = rows(services.database, SELECT_DUE)
        assert transformed.left == (left[-1] > 0) == (cursor["load_due_at"] is not None)
        assert cursor["next_attempt_at"] == cursor["load_due_at"]
        runs += 1
    assert runs > 1
    assert left == sorted(left, reverse=True)
    assert one(services.database, "select count(*) from roi.transactions where custom->>'rule_11' = '1000'") == 45
    assert one(services.database, "select count(*) from softpro.quarantine") == 0


def test_the_webhook_worker_loads_them_too(
    services: Services, acme: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(services, acme, ruled(*[BUSY] * 12))
    run = begin(services, acme)
    pipeline.extract(services, run)
    assert pipeline.transform(services.database, run, RuleBudget(deadline=time.monotonic())).left
    pipeline.fail(services.database, run, UsageError("a test"))
    monkeypatch.setattr(pipeline, "RULE_SLICE_SECONDS", 0.5)
    left, drains = [45], 0
    while left[-1]:
        execute(services.database, "update softpro.cursors set load_due_at = now() where load_due_at is not null")
        drain(services, run_id=f"drain {drains}", seconds=1)
        left.append(int(one(services.database, COUNT_PENDING)))
        assert left[-1] < left[-2]
        drains += 1
    assert one(services.database, "select count(*) from roi.transactions") == 45


def show(services: Services, acme: Integration, cancelled: Event, *rules: str) -> previews.Preview:
    chosen = RecordSelection(latest=45)
    return preview(services.database, acme, TRANSACTION, ruled(*rules), chosen, cancelled.is_set)


def fetch_all(services: Services, acme: Integration) -> None:
    run = begin(services, acme)
    pipeline.extract(services, run)


def test_a_preview_tries_two_hostile_rules_once_each(services: Services, acme: Integration) -> None:
    fetch_all(services, acme)
    shown = show(services, acme, Event(), HOSTILE, HOSTILE)
    errors = [reason["message"] or "" for effect in shown.effects for reason in effect.reasons]
    assert len(errors) == 90
    assert sum(NOT_TRIED not in error for error in errors) == previews.MAX_RULE_SECONDS / STOP_SECONDS == 2


def test_a_preview_ends_with_its_request(services: Services, acme: Integration) -> None:
    fetch_all(services, acme)
    cancelled = Event()
    with ThreadPoolExecutor(1) as pool:
        shown = pool.submit(show, services, acme, cancelled, *[BUSY] * 300)
        time.sleep(2)
        cancelled.set()
        with pytest.raises(UsageError):
            shown.result(timeout=10)
    assert one(services.database, "select count(*) from staging.transactions") == 0


def test_a_preview_has_a_limit_of_seconds(
    services: Services, acme: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_all(services, acme)
    monkeypatch.setattr(previews, "MAX_SECONDS", 2.0)
    with pytest.raises(UsageError, match="choose fewer records, or make the rules simpler"):
        show(services, acme, Event(), *[BUSY] * 300)
