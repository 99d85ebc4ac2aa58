"""Check each kind of validationRules on each kind of column: good values load, violations have a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.errors import CheckFailed, MappingError
from softpro.mapping import repository
from softpro.mapping.mapping import Mapping
from softpro.quality import gx_runner
from softpro.runs import pipeline
from softpro.services import Services

from ..support.databases import execute, one, rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.product import begin, connect_acme, quality_settings, sync
from ..support.sandbox import Sandbox

TRANSACTION = EntityType.TRANSACTION
# Characters that Great Expectations, SQLAlchemy or psycopg would misread without escaping.
ODD_PATTERN = r"^(100% \{a\}\\d'x:y\?|:b [[:alpha:]]{2}|%s)$"


class Case(NamedTuple):
    """A target, one of its rules, values that keep it, values that break it, and the text of the reason."""

    target: str
    rule: str
    wanted: Any
    kept: list[Any]
    broken: list[Any]
    demand: str


CASES = [
    Case("transaction_number", "type", "number", ["1", "-0.5", 7, " 1e3 "], ["", "1_0", "NaN", "x"], "number"),
    Case("transaction_type", "type", "integer", ["1", "10e-1", 7], ["1.5", "x"], "integer"),
    Case("status", "type", "boolean", [True, "false"], ["yes", 1], "boolean"),
    Case("property_street", "type", "timestamp", ["2025-01-02", "2025-01-02T03:04:05Z"], ["tomorrow", "2025-02-30"],
         "timestamp"),
    Case("property_street2", "type", "string", ["", "x", 7], [], ""),
    Case("property_city", "enum", ["a%b", "c:d", "e'f", "g\\h", "{i}"], ["a%b", "g\\h", "{i}"], ["a%%b", "", "E'f"],
         "one of a%b, c:d, e'f, g\\h, {i}"),
    Case("property_state", "pattern", ODD_PATTERN, ["100% {a}\\d'x:y?", ":b cd", "%s"], ["100% {a}", ""],
         "a match of ^(100% "),
    Case("property_zip", "min", 10, ["10", "1e2", 11.5], ["9.99", "x", ""], "at least 10"),
    Case("property_county", "max", 10.5, ["10.5", "-1e300"], ["10.51", "ten"], "at most 10.5"),
    Case("property_country", "length", 2, ["US", "ñé"], ["", "USA"], "2 characters"),
    Case("property_apn", "length", {"min": 2, "max": 3}, ["ab", "abc"], ["a", "abcd"],
         "at least 2 and at most 3 characters"),
    Case("property_latitude", "type", "integer", [1, 2.0, "3"], [1.5, 1e-30], "integer"),
    Case("property_longitude", "enum", [1, 2.5, -3], [1.0, 2.5, -3], [2, 2.50001], "one of 1, 2.5, -3"),
    Case("purchase_price", "min", 100, [100, 100.01], [99.99, 0], "at least 100"),
    Case("loan_amount", "max", 10**15, [999_999_999_999.99], [], ""),
    Case("down_payment", "max", 0.1, [0.1, 0], [0.11, 5], "at most 0.1"),
    Case("closing_cost", "type", "number", [0.5], [], ""),
    Case("opened_at", "min", "2025-01-01", ["2025-01-01T00:00:00Z", "2026-01-01"], ["2024-12-31T23:59:59.999Z"],
         "at least 2025-01-01"),
    Case("actual_closing_at", "max", "2025-01-01T02:00:00+02:00", ["2025-01-01T00:00:00Z"], ["2025-01-01T00:00:01Z"],
         "at most 2025-01-01"),
    Case("custom.string", "type", "string", ["", "1"], [1, True, {}, []], "string"),
    Case("custom.number", "type", "number", [1, 0.5], ["1", True], "number"),
    Case("custom.integer", "type", "integer", [1, 2.0], [1.5, "1"], "integer"),
    Case("custom.boolean", "type", "boolean", [True, False], ["true", 0], "boolean"),
    Case("custom.object", "type", "object", [{}, {"a": 1}], [[], "x"], "object"),
    Case("custom.array", "type", "array", [[], [1]], [{}, "x"], "array"),
    Case("custom.enum {x} 'y' %", "enum", ["a%b", "{c}", 1.5, ":d"], ["a%b", "{c}", 1.5, ":d"], ["1.5", [], "a"],
         "one of a%b, {c}, 1.5, :d"),
    Case("custom.pattern", "pattern", ODD_PATTERN, ["100% {a}\\d'x:y?", ":b cd"], ["x", 5, {}, ["%s"]],
         "a match of ^(100% "),
    Case("custom.zip", "pattern", "^[0-9]{5}$", ["85701", 85701], ["8570", False], "a match of ^[0-9]{5}$"),
    Case("custom.min", "min", -1.5, [-1.5, "7", 10**20], [-2, "x", [], True], "at least -1.5"),
    Case("custom.max", "max", 7, [7, "-1"], [7.01, {}], "at most 7"),
    Case("custom.length", "length", {"max": 3}, ["", "abc", 123], ["abcd", 1234, [], {}], "at most 3 characters"),
]  # fmt: skip


def field_of(case: Case) -> str:
    return f"f{CASES.index(case)}"


def mappings() -> list[Mapping]:
    return [
        Mapping(TRANSACTION, field_of(case), case.target, validation_rules={case.rule: case.wanted}) for case in CASES
    ]


def give(services: Services, integration: Integration, wanted: list[Mapping]) -> None:
    with services.database.connect() as connection:
        repository.replace(connection, integration.id, integration.organization_id, wanted, "a test")


def test_each_rule_rejects_violations_with_a_readable_reason(
    start_sandbox: StartSandbox, services: Services, database: Any
) -> None:
    sandbox = start_sandbox(transactions=0, contacts=0)
    (organization,) = sandbox.organizations
    services, acme = connect_acme(database, sandbox)
    give(services, acme, mappings())
    head = {"orderType": "SALE", "createdAt": "2025-06-01T00:00:00.000Z", "updatedAt": "2025-06-01T00:00:00.000Z"}
    bad: dict[str, tuple[Case, Any]] = {}
    good = []
    for case in CASES:
        for number, value in enumerate([*case.kept, None]):
            good.append(f"good {field_of(case)} {number}")
            sandbox.put(organization, {"orderId": good[-1], **head, field_of(case): value})
        for number, value in enumerate(case.broken):
            bad[f"bad {field_of(case)} {number}"] = case, value
            sandbox.put(organization, {"orderId": f"bad {field_of(case)} {number}", **head, field_of(case): value})

    log = sync(services, acme)

    assert (log.status, log.error_message) == ("PARTIAL_SUCCESS", None)
    loaded = {row["id"] for row in rows(database, "select softpro_order_id as id from roi.transactions")}
    assert loaded == set(good)
    found = {row["entity_id"]: row["reasons"] for row in rows(database, "select * from softpro.quarantine")}
    assert found.keys() == bad.keys()
    assert (log.records_processed, log.records_failed) == (len(good) + len(bad), len(bad))
    for name, (case, value) in bad.items():
        (reason,) = found[name]
        assert (reason["column"], reason["rule"]) == (case.target, f"validationRules.{case.rule}"), (case, value)
        begins = f"{field_of(case)}: validationRules.{case.rule} demands "
        assert reason["message"].startswith(begins), reason
        assert case.demand in reason["message"], reason
        assert ", found " in reason["message"]


def test_the_results_count_violations_by_rule(
    connected: Connected, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    acme = connected("acme")
    only_ones = {"orderNumber": "transaction_number", "customFields.region": "custom.region"}
    give(
        services,
        acme,
        [Mapping(TRANSACTION, f, t, validation_rules={"enum": ["1"]}) for f, t in only_ones.items()],
    )
    having = sum(record.get("orderNumber") is not None for record in sandbox.records(vendor_organization).values())

    log = sync(services, acme)

    assert rows(
        services.database,
        """
        select expectation, column_name, severity, level, kwargs, records, unexpected, success
        from softpro.check_results where log_id = %s and kwargs ? 'enum' order by 2 desc
        """,
        log.id,
    )[0] == {
        "expectation": "validationRules.enum",
        "column_name": "transaction_number",
        "severity": "critical",
        "level": "row",
        "kwargs": {"enum": ["1"]},
        "records": 45,
        "unexpected": having,
        "success": False,
    }


def test_a_pattern_that_postgresql_can_not_read_refuses_the_set(services: Services, connected: Connected) -> None:
    acme = connected("acme")
    before = rows(services.database, "select * from softpro.mappings order by entity_type, position")
    unreadable = [
        Mapping(TRANSACTION, "orderNumber", "transaction_number"),
        Mapping(TRANSACTION, "notes", "notes", validation_rules={"pattern": "("}),
        Mapping(TRANSACTION, "status", "status", validation_rules={"pattern": "a{2,1}"}),
    ]
    with pytest.raises(MappingError) as refused:
        give(services, acme, unreadable)
    assert refused.value.problems == [
        "mapping 2: validationRules.pattern can't be read by PostgreSQL: invalid regular expression: "
        "parentheses () not balanced",
        "mapping 3: validationRules.pattern can't be read by PostgreSQL: invalid regular expression: "
        "invalid repetition count(s)",
    ]
    assert rows(services.database, "select * from softpro.mappings order by entity_type, position") == before


def test_a_pattern_that_takes_very_long_fails_the_check_and_says_so(
    connected: Connected,
    services: Services,
    sandbox: Sandbox,
    vendor_organization: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acme = connected("acme")
    slow = Mapping(TRANSACTION, "notes", "notes", validation_rules={"pattern": "x"})
    give(services, acme, [slow])
    # A version before this one accepted such patterns.
    execute(
        services.database,
        """
        update softpro.mapping_versions
        set mappings = jsonb_set(mappings, '{0, validation_rules, pattern}', to_jsonb(%s::text))
        """,
        r"^(.*)(.*)(.*)\1\2\3$",
    )
    record = json.loads(json.dumps(next(iter(sandbox.records(vendor_organization).values())), default=float))
    sandbox.put(vendor_organization, {**record, "orderId": "slow", "notes": "a" * 2_001})
    run = begin(services, acme)
    pipeline.extract(services, run)
    pipeline.transform(services.database, run)
    monkeypatch.setattr(gx_runner, "STATEMENT_TIMEOUT_SECONDS", 1)
    monkeypatch.setattr("softpro.quality.check.STATEMENT_TIMEOUT_SECONDS", 1)

    with pytest.raises(CheckFailed, match=r"^A check took too long and was cancelled, so nothing was loaded"):
        pipeline.check(services.database, run, quality_settings())

    assert one(services.database, "select count(*) from staging.rejects") == 0
    give(services, acme, [replace(slow, validation_rules=None)])
    pipeline.transform(services.database, run)
    assert pipeline.check(services.database, run, quality_settings()).rejected == 0
