"""Keep every mapping set, and name in every row, log and case the set that produced it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from threading import Thread

import pytest

from softpro.db.database import Connection
from softpro.db.integrations import Integration
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import MappingError, NotFoundHere, VersionConflict
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.mapping.repository import Replaced
from softpro.runs import pipeline
from softpro.runs import sync as runs_sync
from softpro.services import Services

from ..support.databases import dump, execute, load, one, rows
from ..support.fixture_types import Connected
from ..support.product import begin, quality_settings, sync

CONTACT, TRANSACTION = EntityType.CONTACT, EntityType.TRANSACTION
DEFAULTS = default_mappings(CONTACT)


def changed(column: str, **how: object) -> list[Mapping]:
    return [
        replace(mapping, **how) if mapping.roi_systems_field == column else mapping  # type: ignore[arg-type]
        for mapping in DEFAULTS
    ]


def ruled(column: str, rule: str) -> list[Mapping]:
    return changed(column, transformation_rule=rule, direction="SOFTPRO_TO_ROI")


def give(services: Services, integration: Integration, mappings: Sequence[Mapping], author: str = "ann") -> Replaced:
    with services.database.connect() as connection:
        return repository.replace(connection, integration.id, integration.organization_id, mappings, author)[CONTACT]


def restore(services: Services, integration: Integration, number: int) -> Replaced:
    with services.database.connect() as connection:
        return repository.restore(connection, integration.stream(CONTACT), number, "bob")


def remap(services: Services, integration: Integration, run_id: str = "remap") -> SyncLog:
    return runs_sync.remap(
        services.database, integration, CONTACT, sync_type=SyncType.MANUAL, run_id=run_id, quality=quality_settings()
    )


def listed(
    connection: Connection, integration: Integration, limit: int = 50, offset: int = 0
) -> list[tuple[object, ...]]:
    found, _ = repository.versions(connection, integration.stream(CONTACT), limit, offset)
    return [(each.version, each.author, each.restores, each.size) for each in found]


# Sets


def test_each_change_makes_a_version_with_its_author_and_the_earlier_ones_stay(
    services: Services, connected: Connected
) -> None:
    acme, other = connected("acme"), connected("other")

    assert give(services, acme, DEFAULTS[:3]) == Replaced(2, changed=True)
    assert give(services, acme, DEFAULTS[:5], "bob") == Replaced(3, changed=True)

    with services.database.connect() as connection:
        assert listed(connection, acme) == [(3, "bob", None, 5), (2, "ann", None, 3), (1, "softpro", None, 20)]
        assert listed(connection, acme, limit=1, offset=1) == [(2, "ann", None, 3)]
        assert repository.versions(connection, acme.stream(CONTACT), 1, 5) == ([], 3)
        assert [repository.version(connection, acme.stream(CONTACT), n)[1] for n in (1, 2, 3)] == [
            DEFAULTS,
            DEFAULTS[:3],
            DEFAULTS[:5],
        ]
        assert repository.current(connection, acme.stream(CONTACT)) == repository.MappingSet(3, DEFAULTS[:5])
        assert repository.current(connection, other.stream(CONTACT)).version == 1
        assert repository.current(connection, acme.stream(TRANSACTION)).version == 1


def test_the_set_in_force_given_again_changes_nothing_another_order_does(
    services: Services, connected: Connected
) -> None:
    acme = connected("acme")
    both_ways = {"fromSoftPro": "$", "toSoftPro": "$"}
    wanted = changed(
        "email", transformation_rule=both_ways, validation_rules={"min": 1e16, "length": {"max": 9, "min": 1}}
    )
    assert give(services, acme, wanted) == Replaced(2, changed=True)
    before = dump(services.database, versions=True)

    assert give(services, acme, wanted) == Replaced(2, changed=False)
    assert dump(services.database, versions=True) == before

    assert give(services, acme, wanted[::-1]) == Replaced(3, changed=True)
    assert give(services, acme, wanted) == Replaced(4, changed=True)


def test_a_set_that_can_not_work_leaves_the_one_in_force(services: Services, connected: Connected) -> None:
    acme = connected("acme")
    before = dump(services.database, versions=True)
    with pytest.raises(MappingError):
        give(services, acme, [*default_mappings(TRANSACTION), Mapping(CONTACT, "email", "no_such_column")])
    assert dump(services.database, versions=True) == before


def test_a_rollback_is_a_new_version_that_names_the_one_it_copies(services: Services, connected: Connected) -> None:
    acme = connected("acme")
    give(services, acme, DEFAULTS[:3])

    assert restore(services, acme, 1) == Replaced(3, changed=True)
    assert restore(services, acme, 3) == Replaced(3, changed=False)

    with services.database.connect() as connection:
        assert listed(connection, acme)[0] == (3, "bob", 1, 20)
        assert repository.current(connection, acme.stream(CONTACT)) == repository.MappingSet(3, DEFAULTS)
        with pytest.raises(NotFoundHere, match="have no version 9"):
            restore(services, acme, 9)


def test_a_rollback_to_what_would_be_refused_today_is_refused_with_all_problems(
    services: Services, connected: Connected
) -> None:
    acme = connected("acme")
    give(services, acme, DEFAULTS[:3])
    execute(
        services.database,
        """
        update softpro.mapping_versions
        set mappings = jsonb_set(jsonb_set(mappings, '{0,transformation_rule}', '"$"'), '{2,roi_systems_field}', '"id"')
        where version = 1 and entity_type = 'CONTACT'
        """,
    )
    with pytest.raises(MappingError) as refused:
        restore(services, acme, 1)
    assert [problem[:10] for problem in refused.value.problems] == ["mapping 1:", "mapping 3:"]
    with services.database.connect() as connection:
        assert repository.current(connection, acme.stream(CONTACT)).version == 2


def test_a_concurrent_change_of_the_set_is_not_overwritten(services: Services, connected: Connected) -> None:
    acme = connected("acme")
    give(services, acme, DEFAULTS[:3])

    def put(**expected: int) -> None:
        versions = {EntityType[name]: number for name, number in expected.items()}
        with services.database.connect() as connection:
            repository.replace(connection, acme.id, "acme", DEFAULTS[:4], "me", versions)

    with pytest.raises(VersionConflict, match="no longer version 1: version 2 is in force") as refused:
        put(CONTACT=1)
    assert (refused.value.entity_type, refused.value.version) == ("CONTACT", 2)
    with pytest.raises(VersionConflict):
        put(CONTACT=2, TRANSACTION=0)
    put(CONTACT=2, TRANSACTION=1)
    with services.database.connect() as connection:
        assert repository.current(connection, acme.stream(CONTACT)).version == 3


# Rows, logs and cases


MADE_BY = "select softpro_contact_id as id, xmin::text as row, mapping_version as by from roi.contacts order by 1"


def test_a_remap_gives_its_version_to_the_rows_that_change_and_leaves_the_others_alone(
    services: Services, connected: Connected
) -> None:
    acme = connected("acme")
    assert sync(services, acme, CONTACT).mapping_version == 1
    before = {row["id"]: row for row in rows(services.database, MADE_BY)}
    companies = "select softpro_contact_id as id from roi.contacts where company is not null"
    with_company = {row["id"] for row in rows(services.database, companies)}
    assert 0 < len(with_company) < len(before)
    give(services, acme, ruled("company", '$ ? "Dr. " & $'))

    log = remap(services, acme)

    assert (log.mapping_version, log.records_updated) == (2, len(with_company))
    after = {row["id"]: row for row in rows(services.database, MADE_BY)}
    assert {entity_id for entity_id in after if after[entity_id] != before[entity_id]} == with_company
    assert {after[entity_id]["by"] for entity_id in with_company} == {2}
    history = "select softpro_contact_id as id, mapping_version as by from roi.contacts_history"
    assert {(row["id"], row["by"]) for row in rows(services.database, history)} == {(each, 1) for each in with_company}
    versions = "select mapping_version as by, count(*) as n from roi.contacts_versions group by 1"
    counted = {row["by"]: row["n"] for row in rows(services.database, versions)}
    assert counted == {1: len(before), 2: len(with_company)}


def test_a_case_names_the_version_that_its_record_failed_by(services: Services, connected: Connected) -> None:
    acme = connected("acme")
    sync(services, acme, CONTACT)
    give(services, acme, changed("company", required=True))

    log = remap(services, acme)

    assert (log.mapping_version, log.status) == (2, "PARTIAL_SUCCESS")
    cases = "select distinct mapping_version as by, log_id from softpro.quarantine where resolved_at is null"
    assert rows(services.database, cases) == [{"by": 2, "log_id": log.id}]

    give(services, acme, ruled("company", "$"))
    assert remap(services, acme, "again").mapping_version == 3
    assert one(services.database, "select count(*) from softpro.quarantine where resolved_at is null") == 0


def test_a_row_names_the_set_that_mapped_it_although_another_is_in_force_when_it_loads(
    services: Services, connected: Connected
) -> None:
    """The set is replaced during transform, which has read the old one and waits for its staging table."""
    acme, database = connected("acme"), services.database
    run = begin(services, acme, CONTACT)
    pipeline.extract(services, run)
    transforming = Thread(target=pipeline.transform, args=[database, run])
    with database.connect() as holding, holding.transaction():
        holding.execute("lock table staging.contacts in access exclusive mode")
        transforming.start()
        waiting = "select count(*) from pg_locks where not granted and relation = 'staging.contacts'::regclass"
        deadline = time.monotonic() + 60
        while not one(database, waiting) and time.monotonic() < deadline:
            time.sleep(0.02)
        give(services, acme, ruled("last_name", '"new"'))
    transforming.join()

    pipeline.check(database, run, quality_settings())
    pipeline.load(database, run)
    log = pipeline.finish(database, run)

    made = "select distinct mapping_version as by, last_name is not distinct from 'new' as new from roi.contacts"
    assert (log.mapping_version, rows(database, made)) == (1, [{"by": 1, "new": False}])
    assert remap(services, acme).mapping_version == 2
    assert rows(database, made) == [{"by": 2, "new": True}]


def test_in_a_background_load_each_row_names_the_set_of_its_part_and_the_log_the_last_one(
    services: Services, connected: Connected
) -> None:
    acme, database = connected("acme"), services.database
    sync(services, acme, CONTACT)
    load(database, "update roi.contacts set last_name = 'stale', mapping_version = 0")
    ids = [row["id"] for row in rows(database, MADE_BY)]
    run = begin(services, acme, CONTACT, Mode.REMAP)
    pipeline.mark(database, run)
    execute(database, "delete from raw.pending where entity_id = any(%s)", ids[6:])
    pipeline.apply(database, run, quality_settings())

    give(services, acme, ruled("last_name", '"new"'))
    pipeline.mark(database, run)
    execute(database, "delete from raw.pending where entity_id = any(%s)", ids[:6])
    pipeline.apply(database, run, quality_settings())
    log = pipeline.finish(database, run)

    assert [row["by"] for row in rows(database, MADE_BY)] == [1] * 6 + [2] * 6
    assert one(database, "select count(*) from roi.contacts where mapping_version = 2 and last_name = 'new'") == 6
    assert (log.mapping_version, log.records_processed) == (2, 12)
