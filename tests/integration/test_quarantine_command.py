"""List, correct, replay and discard cases with `python -m softpro quarantine`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from softpro.services import Services

from ..support.databases import one
from ..support.fixture_types import Connected
from ..support.forked_process import ForkedProcess
from ..support.product import CommandResult, begin, command, sync
from ..support.sandbox import Sandbox

HEAD = {"orderType": "SALE", "createdAt": "2025-06-01T00:00:00.000Z", "updatedAt": "2025-06-01T00:00:00.000Z"}
OPEN = "select count(*) from softpro.quarantine where resolved_at is null"
SOME_ID = "00000000-0000-0000-0000-000000000001"


def listed(answer: CommandResult) -> list[str]:
    assert answer.code == 0, answer.err
    return [json.loads(line)["entityId"] for line in answer.out.splitlines()]


def test_cases_are_listed_shown_corrected_replayed_and_discarded(
    connected: Connected,
    services: Services,
    settings: dict[str, str],
    sandbox: Sandbox,
    vendor_organization: str,
    tmp_path: Path,
) -> None:
    acme = connected("acme")
    for order_id, field, value in (
        ("negative", "purchasePrice", -1),
        ("wordy", "loanAmount", "a lot"),
        ("nul", "notes", "\x00 \u001b[31m"),
    ):
        sandbox.put(vendor_organization, {"orderId": order_id, **HEAD, field: value})
    sync(services, acme)

    def quarantine(*arguments: str) -> CommandResult:
        return command(settings, "quarantine", *arguments)

    assert sorted(listed(quarantine("list", "acme", "--json"))) == ["negative", "nul", "wordy"]
    assert listed(quarantine("list", "acme", "--column", "loan_amount", "--rule", "type", "--json")) == ["wordy"]
    assert listed(quarantine("list", "acme", "--entity", "contacts", "--json")) == []
    first_page = quarantine("list", "acme", "--limit", "1")
    assert (len(first_page.out.splitlines()), first_page.err.strip()) == (1, "1 of 3")

    ids = {
        case["entityId"]: case["id"] for case in map(json.loads, quarantine("list", "acme", "--json").out.splitlines())
    }
    shown = json.loads(quarantine("show", ids["wordy"], "--json").out)
    assert (shown["payload"]["loanAmount"], shown["mappingVersion"], shown["resolution"]) == ("a lot", 1, None)
    text = quarantine("show", ids["nul"]).out
    assert "SoftPro sent:" in text
    assert "\\u0000" in text

    corrected = tmp_path / "record.json"
    corrected.write_text(json.dumps({"orderId": "wordy", **HEAD, "loanAmount": 1.25}))
    edited = quarantine("edit", ids["wordy"], "--file", str(corrected), "--json")
    assert edited.code == 0, edited.err
    assert {key: json.loads(edited.out)[key] for key in ("recordsSucceeded", "recordsFailed", "left")} == {
        "recordsSucceeded": 1,
        "recordsFailed": 0,
        "left": 0,
    }
    assert one(services.database, "select loan_amount::text from roi.transactions where loan_amount = 1.25") == "1.25"

    with ForkedProcess(
        *("softpro", "quarantine", "edit", ids["nul"], "--file", "-"),
        environment=settings,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as piped:
        _, said = piped.communicate(json.dumps({"orderId": "nul", **HEAD}), timeout=60)
    assert piped.returncode == 0, said

    replayed = quarantine("replay", "acme", "--case", ids["negative"])
    assert replayed.code == 0, replayed.err
    assert replayed.out.startswith("transactions PARTIAL_SUCCESS: 0 fetched, 0 loaded")
    assert one(services.database, OPEN) == 1
    discarded = quarantine("discard", ids["negative"], "--reason", "a test of theirs")
    assert discarded.code == 0, discarded.err
    assert f"{ids['negative']}  transaction negative  DISCARDED" in discarded.out
    assert one(services.database, OPEN) == 0
    everything = quarantine("list", "acme", "--resolution", "edited", "--json")
    assert sorted(listed(everything)) == ["nul", "wordy"]


def test_wrong_use_exits_2_and_an_impossible_action_exits_1(
    connected: Connected, services: Services, settings: dict[str, str], sandbox: Sandbox, vendor_organization: str
) -> None:
    acme = connected("acme")
    sandbox.put(vendor_organization, {"orderId": "negative", **HEAD, "purchasePrice": -1})
    sync(services, acme)
    case = str(one(services.database, "select id from softpro.quarantine"))

    assert command(settings, "quarantine", "list", "nobody").code == 2
    assert command(settings, "quarantine", "list", "acme", "--resolution", "gone").code == 2
    assert command(settings, "quarantine", "show", SOME_ID).code == 2
    assert command(settings, "quarantine", "replay", "acme", "--case", SOME_ID).code == 2
    assert command(settings, "quarantine", "discard", case, "--reason", " ").code == 2
    assert command(settings, "quarantine", "edit", case, "--file", "/nowhere").code == 2

    begin(services, acme)
    busy = command(settings, "quarantine", "replay", "acme", "--entity", "transactions")
    assert (busy.code, "Another run already syncs these transactions" in busy.err) == (1, True)
