"""Compare special characters in customers' validationRules and targets, and never execute them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from softpro.db.database import Database
from softpro.entities import EntityType
from softpro.errors import MappingError
from softpro.mapping import repository
from softpro.mapping.columns import COLUMNS, Type
from softpro.mapping.mapping import Mapping
from softpro.services import Services

from ..support.databases import one, rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.product import connect_acme, sync

TRANSACTION = EntityType.TRANSACTION
HEAD = {"orderType": "SALE", "createdAt": "2025-06-01T00:00:00.000Z", "updatedAt": "2025-06-01T00:00:00.000Z"}
ODD = ["'", '"', "\\", "%", "%s", "{", "}", "{batch}", ":a", "$", ";", "--", "/*", "\n"]
TEXTS = [column for column, kind in COLUMNS[TRANSACTION].items() if kind is Type.TEXT]
# Breaks out of a literal as Python quotes it, and out of its brackets where Great Expectations cuts it.
PAYLOAD = "(((('))) bad); create table public.pwned as select 1 as owned; --\""
CUSTOM_RULES: dict[str, tuple[Any, Any, Any]] = {
    "type": ("string", "x", 1),
    "min": (10, 10, 9),
    "max": (10, 10, 11),
    "length": (2, "ab", "abc"),
}
"""A rule, a value that keeps it, and one that breaks it."""


def rules_of(odd: str) -> dict[str, tuple[Any, Any, Any]]:
    """Return an enum and a pattern that contain the text."""
    return {
        "enum": ([f"a{odd}b", "Prince George's"], f"a{odd}b", f"a{odd}{odd}b"),
        "pattern": (f"^a{re.escape(odd)}b$", f"a{odd}b", f"a{odd}{odd}b"),
    }


def assert_verdicts(
    start_sandbox: StartSandbox, database: Database, demands: list[tuple[str, str, tuple[Any, Any, Any]]]
) -> None:
    """Load, for each target and rule, a record that keeps it and one that breaks it. Assert the verdicts."""
    sandbox = start_sandbox(transactions=0, contacts=0)
    (organization,) = sandbox.organizations
    services, acme = connect_acme(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="200")
    mappings = [
        Mapping(TRANSACTION, f"f{number}'%{{}}:$;\"", target, validation_rules={rule: wanted})
        for number, (target, rule, (wanted, _, _)) in enumerate(demands)
    ]
    with database.connect() as connection:
        repository.replace(connection, acme.id, "acme", mappings, "a test")
    for number, (mapping, (_, _, (_, kept, broken))) in enumerate(zip(mappings, demands, strict=True)):
        for name, value in (("good", kept), ("bad", broken)):
            sandbox.put(organization, {"orderId": f"{name} {number}", **HEAD, mapping.softpro_field: value})

    log = sync(services, acme)

    assert (log.status, log.error_message) == ("PARTIAL_SUCCESS", None)
    loaded = {row["id"] for row in rows(database, "select softpro_order_id as id from roi.transactions")}
    assert loaded == {f"good {number}" for number in range(len(demands))}
    found = {row["entity_id"]: row["reasons"] for row in rows(database, "select * from softpro.quarantine")}
    assert found.keys() == {f"bad {number}" for number in range(len(demands))}
    for number, (target, rule, (_, _, broken)) in enumerate(demands):
        (reason,) = found[f"bad {number}"]
        assert (reason["column"], reason["rule"]) == (target, f"validationRules.{rule}")
        assert reason["message"].startswith(f"{mappings[number].softpro_field}: validationRules.{rule} demands ")
        shown = json.dumps(broken, ensure_ascii=False) if target.startswith("custom.") else broken
        assert reason["message"].endswith(f", found {shown}"), reason
    assert one(database, "select to_regclass('public.pwned')") is None


@pytest.mark.parametrize("rule", ["enum", "pattern"])
def test_a_rule_on_a_text_compares_all_characters(start_sandbox: StartSandbox, database: Database, rule: str) -> None:
    assert len(TEXTS) >= len(ODD)
    demands = [(target, rule, rules_of(odd)[rule]) for target, odd in zip(TEXTS, ODD, strict=False)]
    assert_verdicts(start_sandbox, database, demands)


def test_a_rule_on_a_custom_field_may_hold_them_and_its_name_too(
    start_sandbox: StartSandbox, database: Database
) -> None:
    demands = [
        (f"custom.{rule} {odd}", rule, values)
        for odd in ODD
        for rule, values in {**CUSTOM_RULES, **rules_of(odd)}.items()
    ]
    assert_verdicts(start_sandbox, database, demands)


def test_sql_in_a_value_is_only_text(start_sandbox: StartSandbox, database: Database) -> None:
    enum, pattern = ([PAYLOAD, "no"], PAYLOAD, "x"), (f"^[{PAYLOAD}]+$", PAYLOAD[:9], "x=")
    demands = [
        ("status", "enum", enum),
        ("notes", "pattern", pattern),
        ("custom.enum", "enum", enum),
        ("custom.pattern", "pattern", pattern),
        (f"custom.{PAYLOAD}", "enum", enum),
        (f"custom.{PAYLOAD} p", "pattern", pattern),
        *((f"custom.{PAYLOAD} {rule}", rule, values) for rule, values in CUSTOM_RULES.items()),
    ]
    assert_verdicts(start_sandbox, database, demands)


@pytest.mark.parametrize("target", ["notes", "custom.a", "custom.a\x00"])
@pytest.mark.parametrize(
    "rules", [{"enum": ["a\x00"]}, {"pattern": "a\x00"}, {"min": 1}], ids=["enum", "pattern", "min"]
)
def test_a_nul_is_refused(services: Services, connected: Connected, target: str, rules: dict[str, Any]) -> None:
    acme = connected("acme")
    field = "f" if "\x00" in target or "min" not in rules else "f\x00"
    with (
        services.database.connect() as connection,
        pytest.raises(MappingError, match="a NUL character can't be stored"),
    ):
        repository.replace(
            connection, acme.id, "acme", [Mapping(TRANSACTION, field, target, validation_rules=rules)], "a test"
        )
