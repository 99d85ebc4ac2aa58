"""Show, change, preview and roll back mappings with `python -m softpro mappings`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from softpro.services import Services

from ..support.databases import dump, one
from ..support.fixture_types import Connected
from ..support.product import CommandResult, command, sync


@pytest.fixture
def acme(services: Services, connected: Connected) -> str:
    """Return an organization with 45 transactions and no contact."""
    sync(services, connected("acme"))
    return "acme"


def run(settings: dict[str, str], *arguments: str) -> CommandResult:
    return command(settings, "mappings", *arguments)


def in_file(folder: Path, mappings: list[dict[str, Any]], **more: Any) -> str:
    path = folder / "mappings.json"
    path.write_text(json.dumps({"mappings": mappings, **more}))
    return str(path)


def entries(settings: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    shown = run(settings, "show", "acme", "--json", *arguments)
    assert (shown.code, shown.err) == (0, "")
    mappings: list[dict[str, Any]] = json.loads(shown.out)["mappings"]
    return mappings


def loud(mappings: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    rule = {"direction": "SOFTPRO_TO_ROI", "transformationRule": "$ ? $uppercase($)"}
    return [{**each, **rule} if each["roiSystemsField"] == column else each for each in mappings]


def test_the_output_of_show_can_be_edited_set_compared_and_rolled_back(
    services: Services, settings: dict[str, str], acme: str, tmp_path: Path
) -> None:
    before = entries(settings)
    assert len(before) == 44

    put = run(settings, "put", acme, "--file", in_file(tmp_path, loud(before, "property_city")))
    assert put.out == (
        "transactions: version 2\n"
        '  changed  property_city  direction           "BIDIRECTIONAL"  => "SOFTPRO_TO_ROI"\n'
        '  changed  property_city  transformationRule  null             => "$ ? $uppercase($)"\n'
        "contacts: version 1, unchanged\n"
        "To apply it to the 45 records that were fetched before: python -m softpro remap acme --entity transactions\n"
    )
    assert re.fullmatch(
        r"(\S+ \(command line\)|command line)",
        one(services.database, "select author from softpro.mapping_versions where version = 2"),
    )

    difference = run(settings, "diff", acme, "--entity", "transactions", "--from", "1")
    assert difference.out == (
        "transactions: version 1 to 2\n"
        '  changed  property_city  direction           "BIDIRECTIONAL"  => "SOFTPRO_TO_ROI"\n'
        '  changed  property_city  transformationRule  null             => "$ ? $uppercase($)"\n'
    )

    rolled_back = run(settings, "rollback", acme, "--entity", "transactions", "--version", "1", "--json")
    assert json.loads(rolled_back.out) == {
        "versions": [{"entityType": "TRANSACTION", "version": 3, "changed": True}],
        "added": [],
        "removed": [],
        "changed": [
            {
                "entityType": "TRANSACTION",
                "roiSystemsField": "property_city",
                "softproField": "propertyAddress.city",
                "changes": [
                    {"property": "direction", "before": "SOFTPRO_TO_ROI", "after": "BIDIRECTIONAL"},
                    {"property": "transformationRule", "before": "$ ? $uppercase($)", "after": None},
                ],
            }
        ],
        "remap": {"command": "python -m softpro remap acme --entity transactions", "records": 45},
    }
    assert entries(settings) == before
    listed = run(settings, "versions", acme, "--entity", "transactions").out.splitlines()
    assert listed[0] == "transactions: 3 versions"
    assert [re.sub(r"  \S+Z  ", "  …  ", line).split("  ")[1:4] for line in listed[1:]] == [
        ["version 3", "…", "24 mappings, a copy of version 1"],
        ["version 2", "…", "24 mappings"],
        ["version 1", "…", "24 mappings"],
    ]
    newest = run(settings, "versions", acme, "--limit", "1", "--json").out.splitlines()
    assert [(each["entityType"], each["version"]) for each in map(json.loads, newest)] == [
        ("TRANSACTION", 3),
        ("CONTACT", 1),
    ]


def test_show_prints_lines_that_can_be_read(settings: dict[str, str], acme: str, tmp_path: Path) -> None:
    mappings = [
        {"entityType": "CONTACT", "softproField": "email", "roiSystemsField": "email", "required": True},
        {
            "entityType": "CONTACT",
            "softproField": "address.state",
            "roiSystemsField": "state",
            "direction": "SOFTPRO_TO_ROI",
            "transformationRule": "$uppercase($)",
            "defaultValue": "AZ",
            "enabled": False,
        },
    ]
    put = run(settings, "put", acme, "--file", in_file(tmp_path, mappings), "--replace").out.splitlines()
    assert put[0] == "contacts: version 2"
    assert [line.split()[0] for line in put[1:]] == ["removed"] * 18 + ["changed"] * 5
    head, *lines = run(settings, "show", acme, "--entity", "contacts").out.splitlines()
    assert re.fullmatch(r"contacts: version 2, \S+Z, 2 mappings, .+", head)
    assert lines == [
        "  email          <->  email  required",
        '  address.state  ->   state  disabled, default "AZ", rule "$uppercase($)"',
    ]
    assert len(run(settings, "show", acme, "--entity", "contacts", "--version", "1").out.splitlines()) == 21


def test_a_preview_shows_what_would_change_and_writes_nothing(
    services: Services, settings: dict[str, str], acme: str, tmp_path: Path
) -> None:
    record = tmp_path / "record.json"
    record.write_text(
        """
        {"orderId": "ord-pasted", "updatedAt": "2025-01-01T00:00:00Z", "propertyAddress": {"city": "Mesa"},
         "purchasePrice": 5, "notes": "dear"}
        """
    )
    before = dump(services.database, versions=True)
    proposed = loud(entries(settings, "--entity", "transactions"), "property_city")
    for each in proposed:
        if each["roiSystemsField"] == "purchase_price":
            each |= {"softproField": "notes", "direction": "SOFTPRO_TO_ROI"}
    file = in_file(tmp_path, proposed)

    shown = run(settings, "preview", acme, "--file", file, "--record", str(record))
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == (
        "transactions: 1 records, 0 would change, 1 would not load (0 with the set in force)\n"
        "\n"
        "ord-pasted would not load\n"
        '  property_city   "Mesa"  => "MESA"\n'
        '  purchase_price  5       => null    notes: "dear" is not a number\n'
    )

    some = one(services.database, "select min(entity_id) from raw.records")
    named = run(settings, "preview", acme, "--file", file, "--id", some, "--id", "ord-none", "--json")
    answer = json.loads(named.out)
    assert ([each["entityId"] for each in answer["records"]], answer["unknownIds"]) == ([some], ["ord-none"])
    latest = json.loads(run(settings, "preview", acme, "--file", file, "--limit", "2", "--json").out)
    assert latest["summary"]["records"] == 2
    assert dump(services.database, versions=True) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["put", "--file", "{bad}"], "softpro: mapping 1: roiSystemsField 'no_such_column' is not a column of roi."),
        (["put", "--file", "{form}"], "softpro: mapping 1: odd: Extra inputs are not permitted"),
        (["put", "--file", "absent.json"], "absent.json"),
        (
            ["preview", "--file", "{bad}"],
            "softpro: mapping 1: roiSystemsField 'no_such_column' is not a column of roi.",
        ),
        (["preview", "--file", "{good}", "--entity", "transactions"], "softpro: The file holds no mappings for --en"),
        (["preview", "--file", "{good}", "--record", "{list}"], "softpro: The --record file must hold one record, whi"),
        (
            ["preview", "--file", "{good}", "--id", "a", "--record", "{form}"],
            "softpro: The --record file must hold one record",
        ),
        (["preview", "--file", "{two}", "--id", "a"], "softpro: The file holds transactions and contacts: choose one"),
        (["show", "--version", "1"], "softpro: A version belongs to one entity type: add --entity"),
        (["show", "--version", "9", "--entity", "contacts"], "softpro: The mappings of contacts have no version 9"),
        (["rollback", "--version", "9", "--entity", "contacts"], "softpro: The mappings of contacts have no version 9"),
        (
            ["diff", "--from", "1", "--entity", "papers"],
            "softpro: --entity must be one of transactions, contacts, or all",
        ),
    ],
)
def test_wrong_use_says_so_and_ends_with_2(
    settings: dict[str, str], connected: Connected, tmp_path: Path, arguments: list[str], said: str
) -> None:
    connected("acme")
    good = {"entityType": "CONTACT", "softproField": "email", "roiSystemsField": "email"}
    files = {
        "good": [good],
        "two": [good, {**good, "entityType": "TRANSACTION", "roiSystemsField": "notes"}],
        "bad": [{**good, "roiSystemsField": "no_such_column"}],
        "late": [good, {**good, "entityType": "TRANSACTION", "roiSystemsField": "no_such_column"}],
        "form": [{**good, "odd": 1}],
        "list": [1],
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    name, *options = [argument.format(**{each: tmp_path / each for each in files}) for argument in arguments]
    answer = run(settings, name, "acme", *options)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


def test_a_file_that_names_an_outdated_version_is_refused(
    settings: dict[str, str], connected: Connected, tmp_path: Path
) -> None:
    connected("acme")
    mappings = entries(settings, "--entity", "contacts")[:3]
    mappings[0]["required"] = True
    expected = in_file(tmp_path, mappings, expectedVersions={"CONTACT": 1})
    assert run(settings, "put", "acme", "--file", expected).code == 0
    again = run(settings, "put", "acme", "--file", expected)
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith("softpro: The mappings of contacts are no longer version 1: version 2 is in force.")
