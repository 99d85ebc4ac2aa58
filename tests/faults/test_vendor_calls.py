"""Fail three responses in ten in every way the contract names: each call ends in the right result or error.

SOFTPRO_TEST_CALLS is the number of rounds of calls, at least 8.
"""

from __future__ import annotations

import io
import os
import random

import pytest

from softpro.db.database import Database
from softpro.entities import EntityType
from softpro.errors import ConflictError, RateLimitError, RecordNotFound, SoftProAPIError, ValidationError
from softpro.softpro360.calls import may_have_happened
from softpro.softpro360.client import contains_fields
from softpro.softpro360.records import Record

from ..support.fixture_types import StartSandbox
from ..support.product import connect_acme

ROUNDS = int(os.environ.get("SOFTPRO_TEST_CALLS", "8"))
SEED = 360
FAULTS = {
    "error500": 0.05,
    "error503": 0.04,
    "error429": 0.01,
    "proxyHtml": 0.04,
    "emptyBody": 0.03,
    "truncatedBody": 0.04,
    "wrongJson": 0.03,
    "resetConnection": 0.03,
    "lostWrite": 0.02,
    "dripBody": 0.01,
}
SLOW = {"dripSeconds": 0.0005, "slow": 0.05, "slowSeconds": 0.1}


def test_every_call_ends_in_the_right_result_or_the_right_error(
    start_sandbox: StartSandbox, database: Database
) -> None:
    own = start_sandbox(transactions=ROUNDS, contacts=3)
    organization = own.organizations[0]
    services, acme = connect_acme(database, own, SOFTPRO_MAX_RETRIES="8")
    truth, draws = own.records(organization), random.Random(SEED)
    orders = list(truth)
    transaction = EntityType.TRANSACTION
    with services.client(acme) as client:
        contents = {order: draws.randbytes(20_000) for order in orders}
        papers = {
            order: client.upload(order, io.BytesIO(content), "deed.pdf", "application/pdf", {}).fields
            for order, content in contents.items()
        }
        own.switch(**FAULTS, **SLOW, faultSeed=SEED)
        refusals = 0
        for order in orders:
            assert client.profile().organization_id == organization
            assert {each.fields.status_code for each in client.statuses()} >= {"OPENED", "CLOSED"}
            page = client.list_page(transaction, updated_from=None, limit=200, offset=0)
            assert page.total >= len(page.records) > 0

            seen = client.record(transaction, order)
            assert isinstance(seen, Record)
            fields = {"notes": f"changed {draws.random()}", "loanAmount": None}
            changed = client.change(transaction, order, fields, seen.etag)
            assert contains_fields(changed.payload, fields)
            with pytest.raises(ConflictError):
                client.change(transaction, order, {"notes": "too late"}, seen.etag)
            with pytest.raises(RecordNotFound):
                client.record(transaction, f"no {order}")
            with pytest.raises(SoftProAPIError) as refused:  # not sent twice, so the refusal may be lost
                client.change(transaction, order, {"closingCost": "a lot"})
            assert isinstance(refused.value, ValidationError | RateLimitError) or may_have_happened(refused.value)
            refusals += isinstance(refused.value, ValidationError)

            assert client.property(order).fields.order_id == order
            assert client.parties(order)
            copy = io.BytesIO()
            client.download(papers[order], copy)
            assert copy.getvalue() == contents[order]
            client.delete(transaction, order)
            with pytest.raises(RecordNotFound):
                client.record(transaction, order)
        own.switch(**dict.fromkeys([*FAULTS, "slow"], 0))
        faults = own.stats()["faults"]
        print(f"{client.requests_made} requests, {refusals} of {ROUNDS} refusals learned of, faults: {faults}")
    assert refusals >= ROUNDS / 3
    assert own.records(organization) == {}
    assert sum(faults.values()) > client.requests_made / 5
