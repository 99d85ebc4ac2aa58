"""Check that every DAG parses, documents itself and keeps the project's defaults."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ..support.forked_process import AIRFLOW, run_code

DAGS = sorted((Path(__file__).parents[2] / "dags").glob("*.py"))

INSPECT = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1])
heavy = [name for name in ("great_expectations", "pandas", "alembic", "jsonatapy") if name in sys.modules]
print(json.dumps({
    "errors": bag.import_errors,
    "heavy": heavy,
    "dags": {
        name: {
            "doc_md": dag.doc_md, "tags": sorted(dag.tags), "catchup": dag.catchup,
            "max_active_runs": dag.max_active_runs,
            "run_types": sorted(each.value for each in dag.allowed_run_types or ()),
            "params": {key: dag.params.get_param(key).schema for key in dag.params},
            "tasks": {
                task.task_id: {
                    "doc_md": task.doc_md, "owner": task.owner, "pool": task.pool, "retries": task.retries,
                    "minutes": task.execution_timeout.total_seconds() / 60, "upstream": sorted(task.upstream_task_ids),
                }
                for task in dag.tasks
            },
        }
        for name, dag in bag.dags.items()
    },
}))
"""


@pytest.fixture(scope="module")
def parsed() -> dict[str, Any]:
    answer = run_code(INSPECT, str(DAGS[0].parent), environment=os.environ, preloaded=AIRFLOW)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def test_every_file_parses_to_one_dag_of_its_name(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert sorted(parsed["dags"]) == [path.stem for path in DAGS]


def test_parsing_imports_nothing_heavy(parsed: dict[str, Any]) -> None:
    assert parsed["heavy"] == []


def test_every_dag_and_task_explains_itself(parsed: dict[str, Any]) -> None:
    for name, dag in parsed["dags"].items():
        assert dag["doc_md"], name
        for task_id, task in dag["tasks"].items():
            assert task["doc_md"], f"{name}.{task_id}"


def test_every_dag_has_tags_an_owner_and_no_catch_up(parsed: dict[str, Any]) -> None:
    for dag in parsed["dags"].values():
        assert "softpro" in dag["tags"]
        assert dag["catchup"] is False
        assert {task["owner"] for task in dag["tasks"].values()} == {"roi-systems"}


def test_no_dag_with_a_clock_can_be_backfilled(parsed: dict[str, Any]) -> None:
    """Each date of a backfill would sync what is due now."""
    for name in ("softpro_sync", "softpro_reconcile", "softpro_maintenance", "softpro_holds"):
        run_types = parsed["dags"][name]["run_types"]
        assert {"scheduled", "manual"} <= set(run_types)
        assert "backfill" not in run_types


def test_every_task_has_a_pool_a_time_limit_and_at_most_one_retry(parsed: dict[str, Any]) -> None:
    for name, dag in parsed["dags"].items():
        for task_id, task in dag["tasks"].items():
            kept = (task["pool"], task["minutes"], task["retries"] in (0, 1))
            assert kept == ("default_pool", 30, True), f"{name}.{task_id}"


def test_unanswered_questions_do_not_block_new_ones(parsed: dict[str, Any]) -> None:
    assert parsed["dags"]["softpro_holds"]["max_active_runs"] == 200


def test_the_maintenance_runs_alone_and_its_tasks_do_not_wait_for_each_other(parsed: dict[str, Any]) -> None:
    dag = parsed["dags"]["softpro_maintenance"]
    assert dag["max_active_runs"] == 1
    assert {task_id: task["upstream"] for task_id, task in dag["tasks"].items()} == {
        "keep_alive": [],
        "tidy": [],
        "observe": [],
    }


def test_the_form_asks_for_organization_entity_types_mode_and_records(parsed: dict[str, Any]) -> None:
    params = parsed["dags"]["softpro_sync"]["params"]
    assert list(params) == ["organization", "entity_types", "mode", "records"]
    assert params["mode"]["enum"] == ["incremental", "delta", "full"]
    assert params["entity_types"]["items"]["enum"] == ["transactions", "contacts"]


def test_the_write_back_runs_alone_and_its_form_names_rows(parsed: dict[str, Any]) -> None:
    dag = parsed["dags"]["softpro_write_back"]
    assert dag["max_active_runs"] == 1
    assert list(dag["params"]) == ["organization", "entity_types", "records"]
