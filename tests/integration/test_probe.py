"""Probe an account with reads: its differences from the contract, without personal data."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from softpro.db import queries
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.services import Services
from softpro.softpro360 import capabilities
from softpro.softpro360.capabilities import Capabilities
from softpro.softpro360.client import Client, Page
from softpro.softpro360.probe import Finding, probe

from ..support.databases import one
from ..support.fixture_types import StartSandbox
from ..support.product import command, connect_acme, environment
from ..support.sandbox import Json

SORTED, FILTERED = "Can lists be sorted by updatedAt?", "Does updatedFrom filter lists?"
LONGEST, ETAGS = "Records on the longest page", "Do single records carry an ETag?"
LIMIT, SKEW = "What rate limit do the headers announce?", "How far is the vendor's clock ahead of the database's?"
FIELDS, CODES = "Fields outside the contract", "Codes outside the contract"
UNPLACED = "Records that can't be placed"


def asked(services: Services, acme: Integration) -> dict[str, Finding]:
    with services.database.connect() as connection, services.client(acme) as client:
        findings = {finding.question: finding for finding in probe(connection, client, acme.id)}
        assert client.requests_made <= 15
        return findings


def known(services: Services, acme: Integration) -> Capabilities:
    with services.database.connect() as connection:
        return capabilities.read(connection, acme.id)


def test_an_account_as_the_contract_says_differs_in_nothing(database: Database, start_sandbox: StartSandbox) -> None:
    services, acme = connect_acme(database, start_sandbox(transactions=260, contacts=40, rateLimit=100))
    findings = asked(services, acme)
    # The sandbox has a few fields and codes that its contract does not name, as they can appear at any time.
    assert {finding.question for finding in findings.values() if finding.differs} <= {FIELDS, CODES}
    assert {findings[question].answer for question in (SORTED, FILTERED, ETAGS)} == {"yes"}
    assert (findings[LONGEST].answer, findings[LIMIT].answer) == ("200", "100 a minute")
    assert known(services, acme) == Capabilities()
    assert one(database, "select probed_at > now() - interval '1 minute' from softpro.capabilities")


@pytest.mark.parametrize(
    ("switches", "question", "answer", "learned"),
    [
        ({"honourSort": False}, SORTED, "no", {"sorts_by_updated_at": False}),
        ({"honourUpdatedFrom": False}, FILTERED, "no", {"filters_updated_from": False}),
        ({"etags": False}, ETAGS, "no", {"sends_etags": False}),
        ({"maxPageSize": 100}, LONGEST, "100", {"page_limit": 100}),
        ({"maxPageSize": 25}, LONGEST, "20", {"page_limit": 20}),
        ({"maxPageSize": 500}, LONGEST, "200", {}),
        ({"rateLimit": 60}, LIMIT, "60 a minute", {}),
        ({"clockSkewSeconds": 90}, SKEW, "+", {}),
        ({"clockSkewSeconds": -7}, SKEW, "-", {}),
    ],
)
def test_differences_are_reported_and_stored(
    database: Database, start_sandbox: StartSandbox, switches: Json, question: str, answer: str, learned: Json
) -> None:
    services, acme = connect_acme(database, start_sandbox(transactions=260, contacts=5, **switches))
    finding = asked(services, acme)[question]
    assert finding.answer.startswith(answer)
    assert finding.differs is (answer != "200")
    assert known(services, acme) == Capabilities(**learned)


def test_the_two_answers_about_lists_are_distinguished(database: Database, start_sandbox: StartSandbox) -> None:
    own = start_sandbox(transactions=60, contacts=5, honourSort="false", honourUpdatedFrom="false")
    services, acme = connect_acme(database, own)
    assert known(services, acme) == Capabilities()
    asked(services, acme)
    assert known(services, acme) == Capabilities(sorts_by_updated_at=False, filters_updated_from=False)
    own.switch(honourSort=True, honourUpdatedFrom=True)
    asked(services, acme)
    assert known(services, acme) == Capabilities()


def test_fields_and_codes_outside_the_contract_are_named_and_no_value_is(
    database: Database, start_sandbox: StartSandbox
) -> None:
    own = start_sandbox(transactions=5, contacts=5)
    services, acme = connect_acme(database, own)
    own.put(
        own.organizations[0],
        {
            "orderId": "odd-1",
            "orderType": "TIMESHARE",
            "status": "Waiting for Ms. Secret",
            "updatedAt": "2025-03-01T00:00:00.000Z",
            "createdAt": "2025-03-01T00:00:00.000Z",
            "escrowRating": {"stars": 5},
            "buyer": [{"partyId": "p", "partyType": "GHOST", "nickname": "Secret"}],
            "propertyAddress": {"city": "Mesa", "planet": "Secret", "JOHN SECRET": 1, "Secret\x00": 1},
            "customFields": {"anything": "goes"},
        },
    )
    own.put(own.organizations[0], {"orderId": "odd-2", "updatedAt": "Secret yesterday"})
    findings = asked(services, acme)
    assert set(findings[FIELDS].answer.split(", ")) >= {
        "transaction.buyer.nickname: text (1)",
        "transaction.escrowRating: object (1)",
        "transaction.propertyAddress.(no identifier): number (1)",
        "transaction.propertyAddress.planet: text (1)",
    }
    assert set(findings[CODES].answer.split(", ")) >= {
        "transaction.buyer.partyType: GHOST (1)",
        "transaction.orderType: TIMESHARE (1)",
        "transaction.status: no code (1)",
    }
    assert findings[UNPLACED].answer == "transaction: updatedAt is missing or is not a timestamp (1)"
    answer = command(environment(database, own), "probe", "acme")
    assert "Secret" not in answer.out + answer.err
    assert "Secret" not in one(database, "select report::text from softpro.capabilities")


def test_an_empty_account_is_inconclusive_and_nothing_is_stored(
    database: Database, start_sandbox: StartSandbox
) -> None:
    services, acme = connect_acme(database, start_sandbox(transactions=0, contacts=0))
    findings = asked(services, acme)
    assert {findings[question].answer[:7] for question in (SORTED, FILTERED, ETAGS, LONGEST)} == {"unknown"}
    assert known(services, acme) == Capabilities()


def test_an_empty_answer_does_not_say_that_lists_are_filtered(
    database: Database, start_sandbox: StartSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, acme = connect_acme(database, start_sandbox(transactions=30, contacts=5))
    select = Client.select

    def nothing_since(client: Client, entity_type: Any, parameters: Any) -> Page:
        page = select(client, entity_type, parameters)
        return replace(page, records=[], total=0) if "updatedFrom" in parameters else page

    monkeypatch.setattr(Client, "select", nothing_since)
    assert asked(services, acme)[FILTERED].answer.startswith("unknown")
    assert one(database, "select filters_updated_from is null from softpro.capabilities")


def test_a_slow_call_says_nothing_about_the_clocks(
    database: Database, start_sandbox: StartSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, acme = connect_acme(database, start_sandbox(transactions=3, contacts=3))
    with services.database.connect() as connection:
        moment = queries.now(connection)
    moments = iter([moment, moment + timedelta(seconds=40)])
    monkeypatch.setattr(queries, "now", lambda connection: next(moments))
    finding = asked(services, acme)[SKEW]
    assert finding.answer == "unknown: the call took 40.0 s"
    assert not finding.differs


def test_the_command_prints_a_report_without_personal_data(database: Database, start_sandbox: StartSandbox) -> None:
    own = start_sandbox(transactions=30, contacts=5, honourSort="false")
    connect_acme(database, own)
    settings = environment(database, own)
    text = command(settings, "probe", "acme")
    assert (text.code, text.err) == (0, "")
    assert f"{SORTED}\n  no\n  the contract says: yes" in text.out
    answers = json.loads(command(settings, "probe", "acme", "--json").out)
    assert {"question": SORTED, "contract": "yes", "answer": "no"} in answers["answers"]
    refused = command(settings, "probe", "nobody")
    assert refused.code == 2
    assert "nobody" in refused.err
