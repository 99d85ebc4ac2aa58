"""Send one mapping, as the specification's example does: no other mapping may be lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from softpro.analysis.preview import RecordSelection, preview
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.errors import MappingError, VersionConflict
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.mapping.document import MAX_MAPPINGS
from softpro.mapping.mapping import Mapping
from softpro.mapping.repository import Replaced
from softpro.services import Services

from ..support.databases import one
from ..support.product import command, sync

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT
DEFAULTS = default_mappings(TRANSACTION)
EXAMPLE = Mapping(TRANSACTION, "orderNumber", "transaction_number", required=True)
EXAMPLE_JSON = {
    "entityType": "TRANSACTION",
    "softproField": "orderNumber",
    "roiSystemsField": "transaction_number",
    "direction": "BIDIRECTIONAL",
    "required": True,
    "enabled": True,
}


def update(services: Services, acme: Integration, *mappings: Mapping, **expected: int) -> Replaced:
    versions = {EntityType[name]: number for name, number in expected.items()}
    with services.database.connect() as connection:
        [updated] = repository.update(connection, acme.id, "acme", mappings, "ann", versions).values()
    return updated


def stored(services: Services, acme: Integration, entity_type: EntityType = TRANSACTION) -> Sequence[Mapping]:
    with services.database.connect() as connection:
        return repository.current(connection, acme.stream(entity_type)).mappings


def test_the_specifications_example_changes_one_mapping_and_keeps_23(services: Services, acme: Integration) -> None:
    updated = update(services, acme, EXAMPLE)
    assert stored(services, acme) == [EXAMPLE, *DEFAULTS[1:]]
    assert (updated.version, updated.changed) == (2, True)
    assert updated.difference.as_json() == {
        "added": [],
        "removed": [],
        "changed": [
            {
                "entityType": "TRANSACTION",
                "roiSystemsField": "transaction_number",
                "softproField": "orderNumber",
                "changes": [{"property": "required", "before": False, "after": True}],
            }
        ],
    }
    assert update(services, acme, EXAMPLE) == Replaced(2, changed=False)
    assert stored(services, acme, CONTACT) == default_mappings(CONTACT)


def test_no_column_is_emptied_by_it(services: Services, acme: Integration) -> None:
    sync(services, acme)
    filled = "select count(status) + count(property_city) from roi.transactions"
    before = one(services.database, filled)
    update(services, acme, EXAMPLE)
    with services.database.connect() as connection:
        connection.execute("delete from raw.records where entity_type = 'TRANSACTION'")
        connection.execute("delete from softpro.cursors where entity_type = 'TRANSACTION'")
    assert sync(services, acme).records_processed == 45
    assert one(services.database, filled) == before > 0


def test_a_conflict_with_a_mapping_that_was_not_sent_names_both(services: Services, acme: Integration) -> None:
    with pytest.raises(MappingError) as refused:
        update(services, acme, Mapping(TRANSACTION, "status", "custom.status"), Mapping(TRANSACTION, "a", "nowhere"))
    sends, no_column = sorted(refused.value.problems)
    assert sends.startswith(
        "mapping 1: softproField 'status' is already sent by the stored mapping to 'status' ('status')"
    )
    assert no_column.startswith("mapping 2: roiSystemsField 'nowhere' is not a column")
    assert stored(services, acme) == DEFAULTS


def test_updates_at_the_same_time_lose_none(services: Services, acme: Integration) -> None:
    sent = [replace(mapping, required=True) for mapping in DEFAULTS[:2]]
    with ThreadPoolExecutor(2) as pool:
        updated = list(pool.map(lambda mapping: update(services, acme, mapping), sent))
    assert {each.version for each in updated} == {2, 3}
    assert stored(services, acme) == [*sent, *DEFAULTS[2:]]


def test_an_outdated_expected_version_is_refused(services: Services, acme: Integration) -> None:
    update(services, acme, EXAMPLE, TRANSACTION=1)
    with pytest.raises(VersionConflict, match="no longer version 1: version 2 is in force"):
        update(services, acme, DEFAULTS[0], TRANSACTION=1)
    assert stored(services, acme)[0] == EXAMPLE


def test_additions_do_not_grow_a_set_without_limit(services: Services, acme: Integration) -> None:
    more = [
        Mapping(TRANSACTION, "orderId", f"custom.a{number}", "SOFTPRO_TO_ROI") for number in range(MAX_MAPPINGS - 23)
    ]
    with pytest.raises(MappingError) as refused:
        update(services, acme, *more)
    assert refused.value.problems == [
        "the set of transactions would have 1,001 mappings, and at most 1,000 are possible"
    ]


def test_a_preview_shows_what_the_same_mappings_would_change(services: Services, acme: Integration) -> None:
    sync(services, acme)
    loud = replace(DEFAULTS[2], transformation_rule="$ ? $lowercase($)", direction="SOFTPRO_TO_ROI")
    chosen = RecordSelection(latest=3)
    updated = preview(services.database, acme, TRANSACTION, [loud], chosen)
    assert {target for effect in updated.effects for target in effect.changed} == {"status"}
    assert len(updated.effects[0].fields) == len(DEFAULTS)
    replaced = preview(services.database, acme, TRANSACTION, [loud], chosen, replace=True)
    assert {"status", "property_city"} <= {target for effect in replaced.effects for target in effect.changed}


def test_the_command_line_updates_too_and_replaces_when_asked(
    services: Services, settings: dict[str, str], acme: Integration, tmp_path: Path
) -> None:
    file = tmp_path / "mappings.json"
    file.write_text(json.dumps({"integrationId": str(acme.id), "mappings": [EXAMPLE_JSON]}))

    put = command(settings, "mappings", "put", "acme", "--file", str(file))
    assert put.out == "transactions: version 2\n  changed  transaction_number  required  false  => true\n"
    assert stored(services, acme) == [EXAMPLE, *DEFAULTS[1:]]

    put = command(settings, "mappings", "put", "acme", "--file", str(file), "--replace", "--json")
    assert len(json.loads(put.out)["removed"]) == 23
    assert stored(services, acme) == [EXAMPLE]

    file.write_text(json.dumps({"mappings": [EXAMPLE_JSON | {"required": False}], "replace": True}))
    assert command(settings, "mappings", "put", "acme", "--file", str(file)).code == 0
    assert stored(services, acme) == DEFAULTS[:1]
