"""Two sides edited at random come to agree, whatever fails on the way (promises 2, 3 and 9).

A model in the sense of hypothesis: people edit records here and at SoftPro, make and delete some, while syncs and
pushes run, lose answers and are killed; then all is quiet. Every edit writes a value that was never there before, so
that what stands in the end tells whose it was.

SOFTPRO_TEST_BOTH_WAYS_EXAMPLES is how many histories each strategy is put through, SOFTPRO_TEST_BOTH_WAYS_STEPS how
long one is at most.
"""

from __future__ import annotations

import itertools
import os
import time
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from softpro.entities import EntityType
from softpro.store import options
from softpro.store.options import ConflictStrategy

from ..support.both_ways import create_here, dying, edit_here, edit_there, pushed, time_passes
from ..support.databases import Server, execute, rows
from ..support.product import between, sync
from ..support.vendor import running

EXAMPLES = int(os.environ.get("SOFTPRO_TEST_BOTH_WAYS_EXAMPLES", "2"))
STEPS = int(os.environ.get("SOFTPRO_TEST_BOTH_WAYS_STEPS", "20"))
KIND = EntityType.TRANSACTION
RECORDS = 3
FIELDS = {  # of ours, and where SoftPro has it
    "notes": ("notes",),
    "property_city": ("propertyAddress", "city"),
    "property_county": ("propertyAddress", "county"),
    "custom.alpha": ("customFields", "alpha"),
    "custom.beta": ("customFields", "beta"),
}
FAULTS = {"lostWrite": 0.4, "error503": 0.1, "resetConnection": 0.1, "truncatedBody": 0.1}
IN_REVIEW = "select entity_id from softpro.conflicts where status = 'OPEN'"
WRITES = ("POST", "PATCH", "DELETE")
ROUNDS = 12

values = (f"value {number}" for number in itertools.count())
fields = st.sampled_from(sorted(FIELDS))


class BothWays(RuleBasedStateMachine):
    """An office at SoftPro with a few orders, and the product between it and ROI."""

    strategy: ClassVar[ConflictStrategy]
    etags: ClassVar[bool] = True
    server: ClassVar[Server]

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.sandbox = self._stack.enter_context(running(organizations=1, transactions=RECORDS, contacts=0))
        self.sandbox.switch(etags=self.etags)
        (self.organization,) = self.sandbox.organizations
        self.database = self._stack.enter_context(self.server.fresh())
        self.services, self.acme = between(self.database, self.sandbox, SOFTPRO_MAX_RETRIES="1")
        with self.database.connect() as connection:
            options.change(connection, self.acme.id, {"conflict_strategy": self.strategy.value, "push_deletes": True})
        execute(self.database, "update softpro.capabilities set sends_etags = %s", self.etags)
        # By record and field: the last value that each side wrote since both agreed.
        self.here: dict[tuple[str, str], str] = {}
        self.there: dict[tuple[str, str], str] = {}
        self.made_here, self.deleted_here = 0, False

    def teardown(self) -> None:
        try:
            self.quiet()
        finally:
            self._stack.close()

    @initialize()
    def first_load(self) -> None:
        assert sync(self.services, self.acme, KIND).succeeded

    @rule(number=st.integers(0, RECORDS - 1), field=fields, both=st.booleans())
    def edit_here(self, number: int, field: str, both: bool) -> None:
        known = self.known()
        if number < len(known):
            key = known[number]
            for name in {field, "notes"} if both else {field}:
                self.write_here(key, name)

    @rule(number=st.integers(0, RECORDS - 1), field=fields)
    def edit_there(self, number: int, field: str) -> None:
        records = sorted(self.sandbox.records(self.organization))
        if number < len(records):
            self.there[records[number], field] = value = next(values)
            outer, *inner = FIELDS[field]
            edit_there(
                self.sandbox, self.organization, KIND, records[number], **{outer: {inner[0]: value} if inner else value}
            )

    @precondition(lambda self: self.made_here < 2)
    @rule()
    def create_here(self) -> None:
        self.made_here += 1
        made = create_here(self.database, KIND, "acme", transaction_type="PURCHASE", notes=next(values))
        if self.made_here == 2:
            edit_here(self.database, KIND, made, notes=next(values))

    @precondition(lambda self: not self.deleted_here)
    @rule(number=st.integers(0, RECORDS - 1))
    def delete_here(self, number: int) -> None:
        known = self.known()
        if number < len(known):
            self.deleted_here = True
            execute(self.database, "delete from roi.transactions where softpro_order_id = %s", known[number])
            self.forget(known[number])

    @rule()
    def sync(self) -> None:
        sync(self.services, self.acme, KIND)

    @rule()
    def push(self) -> None:
        time_passes(self.database)
        pushed(self.services, self.acme, KIND)

    @rule(after=st.integers(1, 6), pushing=st.booleans())
    def killed(self, after: int, pushing: bool) -> None:
        time_passes(self.database)
        dying(
            lambda: pushed(self.services, self.acme, KIND) if pushing else sync(self.services, self.acme, KIND), after
        )
        self.wait_for_the_dead()

    @rule(seed=st.integers(1, 1000))
    def push_while_answers_are_lost(self, seed: int) -> None:
        self.sandbox.switch(**FAULTS, faultSeed=seed)
        try:
            time_passes(self.database)
            pushed(self.services, self.acme, KIND)
        finally:
            self.sandbox.switch(**dict.fromkeys(FAULTS, 0))

    @rule()
    def quiet(self) -> None:
        """After enough syncs and pushes both sides agree, and then nothing is written any more."""
        for _ in range(ROUNDS):
            time_passes(self.database)
            pushed(self.services, self.acme, KIND)
            assert sync(self.services, self.acme, KIND).succeeded
            if not self.waits():
                break
        assert not self.waits(), [row["error"] for row in rows(self.database, "select error from softpro.pushes")]
        began = time.time()
        log = sync(self.services, self.acme, KIND)
        assert (log.records_inserted, log.records_updated) == (0, 0)
        pushed(self.services, self.acme, KIND)
        written = [call for call in self.sandbox.calls(began) if call["call"].split()[0] in WRITES]
        assert written == []
        self.compare()
        self.resolve()

    def compare(self) -> None:
        """Both sides hold the same; of a field that one side alone wrote, what it wrote."""
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
                wrote = {side[key, field] for side in (self.here, self.there) if (key, field) in side}
                assert not wrote or ours in wrote, (key, field, ours, wrote)
        self.here.clear()
        self.there.clear()

    def resolve(self) -> None:
        """Under MANUAL_REVIEW the person decides that SoftPro is right; the strategy that follows carries it out."""

    def write_here(self, key: str, field: str) -> None:
        value = self.here[key, field] = next(values)
        if not field.startswith("custom."):
            edit_here(self.database, KIND, key, **{field: value})
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
        """SoftPro's ids of the rows that are there."""
        query = """
            select softpro_order_id as key from roi.transactions
            where softpro_order_id is not null and deleted_at is null
            order by 1
        """
        return [row["key"] for row in rows(self.database, query)]

    def forget(self, key: str) -> None:
        for side in (self.here, self.there):
            for name in [each for each in side if each[0] == key]:
                del side[name]

    def waits(self) -> bool:
        """Whether there are open edits of records that nobody has to decide about."""
        query = """
            select count(*) as n from softpro.outbox o
            where settled_at is null and not exists (
                select from softpro.conflicts c where c.roi_entity_id = o.roi_entity_id and c.status = 'OPEN')
        """
        return bool(rows(self.database, query)[0]["n"])

    def wait_for_the_dead(self) -> None:
        """Until PostgreSQL has noticed that the process is gone, and the lease it had is free."""
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


@pytest.mark.parametrize("strategy", list(ConflictStrategy))
def test_both_sides_come_to_agree_and_nothing_goes_back_and_forth(
    server: Server, strategy: ConflictStrategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTPRO_DELETE_LIMIT_PERCENT", "100")  # of three records one is many
    machine = type("Machine", (BothWays,), {"strategy": strategy, "server": server})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # what a history means depends on all that came before: a shorter one says less
            suppress_health_check=list(HealthCheck),
        ),
    )
