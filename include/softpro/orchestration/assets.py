"""The roi tables as Airflow assets: an analyst's DAG is scheduled on them and runs when rows changed.

@dag(schedule=[Asset("softpro://roi/transactions")])
"""

from __future__ import annotations

from airflow.sdk import Asset, AssetAlias

from softpro.entities import EntityType

# Events are added to the alias by the task, and only when it wrote rows: an outlet proper would speak on every run.
CHANGED = AssetAlias("softpro-roi-tables", group="softpro")

TABLES = {
    entity_type: Asset(name=f"roi.{entity_type.table}", uri=f"softpro://roi/{entity_type.table}", group="softpro")
    for entity_type in EntityType
}
