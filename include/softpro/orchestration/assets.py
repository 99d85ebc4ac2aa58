"""Define the Airflow assets for the roi tables and for held batches.

A DAG with `schedule=[Asset("softpro://roi/transactions")]` runs when rows of that table changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import Asset, AssetAlias

from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType

# Tasks add events to the alias only when they wrote rows. A plain outlet would emit one on every run.
CHANGED = AssetAlias("softpro-roi-tables", group="softpro")

TABLE_ASSETS = {
    entity_type: Asset(name=f"roi.{entity_type.table}", uri=f"softpro://roi/{entity_type.table}", group="softpro")
    for entity_type in EntityType
}

# Events of this asset start the DAG softpro_holds, which asks users about held batches.
HOLDS = Asset(name="softpro.holds", uri="softpro://holds", group="softpro")
HELD = AssetAlias("softpro-holds", group="softpro")


def notify_held(outlet_events: Any, count: int) -> None:
    """Emit an event if batches wait for a decision and no user has been asked yet."""
    if count:
        outlet_events[HELD].add(HOLDS, extra={"holds": count})


def notify(outlet_events: Any, entries: Sequence[SyncLog]) -> None:
    """Emit an event for each roi table that these runs changed, with the number of rows.

    The numbers come from the logs, so a retry of a task also reports the rows that an earlier attempt wrote.
    """
    for entity_type, asset in TABLE_ASSETS.items():
        rows = sum(e.records_inserted + e.records_updated for e in entries if e.entity_type == entity_type.value)
        if rows:
            outlet_events[CHANGED].add(asset, extra={"rows": rows})
