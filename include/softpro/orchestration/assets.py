"""The roi tables as Airflow assets: an analyst's DAG is scheduled on them and runs when rows changed. And the holds.

@dag(schedule=[Asset("softpro://roi/transactions")])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import Asset, AssetAlias

from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType

# Events are added to the alias by the task, and only when it wrote rows: an outlet proper would speak on every run.
CHANGED = AssetAlias("softpro-roi-tables", group="softpro")

TABLE_ASSETS = {
    entity_type: Asset(name=f"roi.{entity_type.table}", uri=f"softpro://roi/{entity_type.table}", group="softpro")
    for entity_type in EntityType
}

# Woken by it, the DAG softpro_holds asks people about batches that were not loaded.
HOLDS = Asset(name="softpro.holds", uri="softpro://holds", group="softpro")
HELD = AssetAlias("softpro-holds", group="softpro")


def notify_held(outlet_events: Any, count: int) -> None:
    """Tells that so many batches wait for a person, and that nobody is asked yet."""
    if count:
        outlet_events[HELD].add(HOLDS, extra={"holds": count})


def notify(outlet_events: Any, entries: Sequence[SyncLog]) -> None:
    """Tells the assets whose rows these runs changed, and how many: from the logs, so that a later try of a task tells
    of what an earlier one wrote."""
    for entity_type, asset in TABLE_ASSETS.items():
        rows = sum(e.records_inserted + e.records_updated for e in entries if e.entity_type == entity_type.value)
        if rows:
            outlet_events[CHANGED].add(asset, extra={"rows": rows})
