"""Edit both sides at random: they converge, whatever fails on the way (promises 2, 3 and 9).

It is a hypothesis state machine. Users edit, create and delete records in ROI and at SoftPro, while syncs and pushes
run, lose responses and are killed. Every edit writes a new value, so the final value shows which side wrote it.

SOFTPRO_TEST_BOTH_WAYS_EXAMPLES is the number of histories for each strategy, SOFTPRO_TEST_BOTH_WAYS_STEPS the maximum
length of one.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from softpro.db import integration_settings
from softpro.db.integration_settings import ConflictStrategy
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType
from softpro.errors import OutOfDate
from softpro.writeback.conflict_lock import Side
from softpro.writeback.resolve import resolve

from ..support.databases import Server, execute, rows
from ..support.product import connect_acme, sync
from ..support.sandbox import running_sandbox
from ..support.writeback import create_in_roi, edit_at_softpro, edit_in_roi, make_all_due, run_push, run_until_killed

EXAMPLES = int(os.environ.get("SOFTPRO_TEST_BOTH_WAYS_EXAMPLES", "1"))
STEPS = int(os.environ.get("SOFTPRO_TEST_BOTH_WAYS_STEPS", "12"))
KIND = EntityType.TRANSACTION
RECORDS = 2
FIELDS = {  # our fields and their paths at SoftPro
    "notes": ("notes",),
    "property_city": ("propertyAddress", "city"),
    "property_county": ("propertyAddress", "county"),
    "custom.alpha": ("customFields", "alpha"),
}
FAULTS = {"lostWrite": 0.4, "error503": 0.1, "resetConnection": 0.1, "truncatedBody": 0.1}
IN_REVIEW = "select id, entity_id from softpro.conflicts where status = 'OPEN'"
WRITES = ("POST", "PATCH", "DELETE")
ROUNDS = 12
MOST_LOOKS = 3

values = (f"value {number}" for number in itertools.count())
fields = st.sampled_from(["notes", "property_city", "custom.alpha"])
numbers = st.integers(0, RECORDS - 1)
sides = st.sampled_from(["here", "there", "both"])
deaths = st.none() | st.integers(1, 4)


class BothWays(RuleBasedStateMachine):
    """An organization at SoftPro with a few orders, and the product between it and ROI."""

    strategy: ClassVar[ConflictStrategy]
    etags: ClassVar[bool]
    server: ClassVar[Server]
    happened: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.sandbox = self._stack.enter_context(running_sandbox(organizations=1, transactions=RECORDS, contacts=0))
        self.sandbox.switch(etags=self.etags)
        (self.organization,) = self.sandbox.organizations
        self.database = self._stack.enter_context(self.server.fresh())
        self.services, self.acme = connect_acme(self.database, self.sandbox, SOFTPRO_MAX_RETRIES="1")
        with self.database.connect() as connection:
            integration_settings.change(
                connection, self.acme.id, {"conflict_strategy": self.strategy.value, "push_deletes": True}
            )
        execute(self.database, "update softpro.capabilities set sends_etags = %s", self.etags)
        # By record and field: the last value that each side wrote since both agreed.
        self.roi_writes: dict[tuple[str, str], str] = {}
        self.softpro_writes: dict[tuple[str, str], str] = {}
        self.made_here, self.deleted_here = 0, False

    def teardown(self) -> None:
        try:
            self.quiet()
            for row in rows(
                self.database,
                "select 'conflicts' as what, count(*) as n from softpro.conflicts union all "
                "select outcome, count(*) from softpro.outbox group by outcome",
            ):
                self.happened[row["what"]] += row["n"]
        finally:
            self._stack.close()

    @initialize()
    def first_load(self) -> None:
        """Load the records and do a little of everything, so that even a short history includes it."""
        assert sync(self.services, self.acme, KIND).succeeded
        self.edit(0, "notes", "both", more=True)
        self.edit(1, "property_city", "here", more=False)
        self.edit(1, "custom.alpha", "there", more=False)
        self.create_in_roi()
        self.push(after=2, seed=None)
        self.push(after=None, seed=self.etags + 1)

    @rule(number=numbers, field=fields, sides=sides, more=st.booleans())
    def edit(self, number: int, field: str, sides: str, more: bool) -> None:
        """Edit one field on one side or on both; with `more` also another field in ROI."""
        known = self.known()
        if number >= len(known):
            return
        key = known[number]
        if sides != "here" and key in self.sandbox.records(self.organization):
            self.write_at_softpro(key, field)
        if sides != "there":
            self.write_in_roi(key, field)
        if more:
            self.write_in_roi(key, "property_county")

    @precondition(lambda self: self.made_here < 2)
    @rule()
    def create_in_roi(self) -> None:
        self.made_here += 1
        made = create_in_roi(self.database, KIND, "acme", transaction_type="PURCHASE", notes=next(values))
        if self.made_here == 2:
            edit_in_roi(self.database, KIND, made, notes=next(values))

    @precondition(lambda self: not self.deleted_here)
    @rule(number=numbers)
    def delete_in_roi(self, number: int) -> None:
        known = self.known()
        if number < len(known):
            self.deleted_here = True
            execute(self.database, "delete from roi.transactions where softpro_order_id = %s", known[number])
            self.forget(known[number])

    @rule(after=deaths)
    def sync(self, after: int | None) -> None:
        self.run(sync, after)

    @rule(after=deaths, seed=st.none() | st.integers(1, 1000))
    def push(self, after: int | None, seed: int | None) -> None:
        """Push; with a seed, responses are lost."""
        make_all_due(self.database)
        self.sandbox.switch(**FAULTS if seed else dict.fromkeys(FAULTS, 0), faultSeed=seed or 1)
        self.run(run_push, after)
        self.sandbox.switch(**dict.fromkeys(FAULTS, 0))

    def run(self, act: Callable[..., SyncLog], after: int | None) -> None:
        """Run a sync or push. With `after`, the process is killed when the response to that request arrives."""
        if after is None:
            act(self.services, self.acme, KIND)
            return
        self.happened["deaths"] += run_until_killed(lambda: act(self.services, self.acme, KIND), after)
        self.wait_for_the_dead()

    @rule()
    def quiet(self) -> None:
        """Assert that both sides agree after enough syncs and pushes, and that nothing is written afterwards.

        The same holds after a user has resolved the conflicts in review.
        """
        self.settle_down()
        self.compare()
        looks = 0
        while in_review := rows(self.database, IN_REVIEW):
            looks += 1
            assert looks <= MOST_LOOKS, in_review
            for number, row in enumerate(in_review):
                self.decide(row["id"], "ROI" if number % 2 else "SOFTPRO")
            self.settle_down()
            self.compare()
        self.roi_writes.clear()
        self.softpro_writes.clear()

    def decide(self, conflict_id: UUID, winner: Side) -> None:
        """Resolve a conflict, unless the record has changed since. Then it is loaded and reviewed again."""
        with self.database.connect() as connection:
            try:
                resolve(connection, self.acme.id, conflict_id, winner, by="ann")
            except OutOfDate:
                self.happened["looked again"] += 1
            else:
                self.happened["reviews"] += 1

    def settle_down(self) -> None:
        for _ in range(ROUNDS):
            make_all_due(self.database)
            run_push(self.services, self.acme, KIND)
            assert sync(self.services, self.acme, KIND).succeeded
            if not self.waits():
                break
        assert not self.waits(), [row["error"] for row in rows(self.database, "select error from softpro.pushes")]
        began = time.time()
        log = sync(self.services, self.acme, KIND)
        assert (log.records_inserted, log.records_updated) == (0, 0)
        run_push(self.services, self.acme, KIND)
        written = [call for call in self.sandbox.calls(began) if call["call"].split()[0] in WRITES]
        assert written == []

    def compare(self) -> None:
        """Assert that both sides are equal, and that a field that one side alone wrote has that value."""
        in_review = {
            row["entity_id"] for row in rows(self.database, "select * from softpro.conflicts where status = 'OPEN'")
        }
        there = self.sandbox.records(self.organization)
        here = {
            row["softpro_order_id"]: row
            for row in rows(self.database, "select * from roi.transactions where deleted_at is null")
        }
        assert set(here) | in_review == set(there) | in_review
        assert len({record["customFields"].get("roiSystemsId", key) for key, record in there.items()}) == len(there)
        for key in set(here) & set(there) - in_review:
            for field, path in FIELDS.items():
                ours, theirs = ours_of(here[key], field), theirs_of(there[key], path)
                assert ours == theirs, (key, field)
                wrote = {side[key, field] for side in (self.roi_writes, self.softpro_writes) if (key, field) in side}
                assert not wrote or ours in wrote, (key, field, ours, wrote)

    def write_at_softpro(self, key: str, field: str) -> None:
        value = self.softpro_writes[key, field] = next(values)
        outer, *inner = FIELDS[field]
        edit_at_softpro(self.sandbox, self.organization, KIND, key, **{outer: {inner[0]: value} if inner else value})

    def write_in_roi(self, key: str, field: str) -> None:
        value = self.roi_writes[key, field] = next(values)
        if not field.startswith("custom."):
            edit_in_roi(self.database, KIND, key, **{field: value})
            return
        execute(
            self.database,
            """
            update roi.transactions set custom = coalesce(custom, '{}') || jsonb_build_object(%s::text, %s::text)
            where softpro_order_id = %s
            """,
            field.removeprefix("custom."),
            value,
            key,
        )

    def known(self) -> list[str]:
        """Return SoftPro's ids of the existing rows."""
        query = """
            select softpro_order_id as key from roi.transactions
            where softpro_order_id is not null and deleted_at is null
            order by 1
        """
        return [row["key"] for row in rows(self.database, query)]

    def forget(self, key: str) -> None:
        for side in (self.roi_writes, self.softpro_writes):
            for name in [each for each in side if each[0] == key]:
                del side[name]

    def waits(self) -> bool:
        """Return whether open edits exist for records without an open conflict."""
        query = """
            select count(*) as n from softpro.outbox o
            where settled_at is null and not exists (
                select from softpro.conflicts c where c.roi_entity_id = o.roi_entity_id and c.status = 'OPEN')
        """
        return bool(rows(self.database, query)[0]["n"])

    def wait_for_the_dead(self) -> None:
        """Wait until PostgreSQL has noticed that the process is gone, and its lease is free."""
        query = """
            select not exists (select from softpro.leases l where not softpro.is_free(l)) as free
        """
        deadline = time.monotonic() + 60
        while not rows(self.database, query)[0]["free"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def ours_of(row: dict[str, Any], field: str) -> Any:
    if field.startswith("custom."):
        return (row["custom"] or {}).get(field.removeprefix("custom."))
    return row[field]


def theirs_of(record: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = record
    for step in path:
        value = (value or {}).get(step)
    return value


@pytest.mark.parametrize(
    ("strategy", "etags"), [(each, True) for each in ConflictStrategy] + [(ConflictStrategy.MERGE, False)]
)
def test_both_sides_converge_and_nothing_is_sent_back_and_forth(
    server: Server, strategy: ConflictStrategy, etags: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTPRO_DELETE_LIMIT_PERCENT", "100")  # one of three records is already many
    happened: Counter[str] = Counter()
    known = {"strategy": strategy, "etags": etags, "server": server, "happened": happened}
    machine = type("Machine", (BothWays,), known)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[
                Phase.generate
            ],  # no shrinking: a step depends on all steps before it, so a shorter history says less
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert happened["conflicts"] >= EXAMPLES
    assert happened["deaths"] >= EXAMPLES
    print(f"{strategy}, {'with' if etags else 'without'} ETags: {dict(happened)}")
