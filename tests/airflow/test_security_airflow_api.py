"""Attack other organizations through Airflow's own API, as users who are confined by name or by team."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import requests

from .conftest import Airflow
from .test_holds import SECONDS_TO_READ, empty_column, loaded, open_hold, question, remap
from .test_sync import until

CONFINED_BY = {"USER": ("syncer", "syncer"), "TEAM": ("operator", "op")}
"""By the kind of a confinement: the user who attacks, and the confined subject."""
CONF: dict[str, dict[str, Any]] = {
    "softpro_sync": {"mode": "full"},
    "softpro_remap": {},
    "softpro_write_back": {},
    "softpro_reconcile": {"limit_percent": 100},
}
"""By DAG: the parameters of the run that an attacker starts."""


@pytest.fixture(scope="module")
def victim(airflow: Airflow) -> str:
    """Return an organization that neither attacker may see, with its contacts loaded."""
    airflow.as_user().connect("victim-org", organization=airflow.vendor_organization())
    airflow.load("victim-org", "--entity", "contacts")
    return "victim-org"


@contextmanager
def confined(airflow: Airflow, kind: str) -> Iterator[str]:
    """Confine the attacker of this kind to another organization for the block, and yield their name."""
    user, subject = CONFINED_BY[kind]
    access = f"{airflow.url}/access"
    scope = {"kind": kind, "subject": subject, "organizations": ["attackers-org"]}
    admin = airflow.as_user().session
    admin.put(access, json=scope).raise_for_status()
    yield user
    admin.put(access, json={**scope, "organizations": []}).raise_for_status()


@pytest.fixture(params=list(CONFINED_BY))
def attacker(request: pytest.FixtureRequest, airflow: Airflow, victim: str) -> Iterator[str]:
    """Yield a user who is confined to another organization."""
    with confined(airflow, request.param) as user:
        yield user


def manual_logs(airflow: Airflow, organization: str) -> list[dict[str, Any]]:
    """Return the logs of the organization's runs that a user started."""
    query = "select id from softpro.sync_logs where organization_id = %s and sync_type = 'MANUAL' order by id"
    return airflow.query(query, organization)


def trigger(
    airflow: Airflow, user: str, dag_id: str, conf: dict[str, Any], run_id: str | None = None
) -> requests.Response:
    return requests.post(
        f"{airflow.stack.airflow_url}/api/v2/dags/{dag_id}/dagRuns",
        json={"logical_date": None, "conf": conf, "dag_run_id": run_id},
        headers={"Authorization": f"Bearer {airflow.token(user)}"},
        timeout=30,
    )


def ended(airflow: Airflow, dag_id: str, started: requests.Response) -> str:
    """Wait for the end of a run, and return its state."""
    started.raise_for_status()
    path = f"/dags/{dag_id}/dagRuns/{started.json()['dag_run_id']}"
    until(120, lambda: airflow.api("GET", path)["state"] in ("success", "failed"))
    return str(airflow.api("GET", path)["state"])


@pytest.fixture(scope="module")
def attacks(airflow: Airflow, victim: str) -> dict[tuple[str, str | None, str], str]:
    """Let both attackers start a run of each DAG at once, and return each run's state at its end."""
    with ExitStack() as stack:
        for kind in CONFINED_BY:
            stack.enter_context(confined(airflow, kind))
        before = manual_logs(airflow, victim)
        begun = {
            (kind, organization, dag_id): trigger(airflow, user, dag_id, {"organization": organization, **conf})
            for kind, (user, _) in CONFINED_BY.items()
            for organization in (victim, None)
            for dag_id, conf in CONF.items()
        }
        states = {attack: ended(airflow, attack[2], started) for attack, started in begun.items()}
        assert manual_logs(airflow, victim) == before
    return states


@pytest.mark.parametrize("dag_id", CONF)
@pytest.mark.parametrize("organization", ["victim-org", None])
@pytest.mark.parametrize("kind", CONFINED_BY)
def test_a_confined_user_starts_no_run_over_another_organization(
    attacks: dict[tuple[str, str | None, str], str], kind: str, organization: str | None, dag_id: str
) -> None:
    state = attacks[kind, organization, dag_id]
    assert organization is None or state == "failed"


def test_raising_a_limit_for_deletes_requires_the_right_to_configure(airflow: Airflow, victim: str) -> None:
    raised = {"organization": victim, "entity_types": ["contacts"], "limit_percent": 100, "limit_records": 10**6}
    assert ended(airflow, "softpro_reconcile", trigger(airflow, "syncer", "softpro_reconcile", raised)) == "failed"
    lowered = raised | {"limit_percent": 0, "limit_records": 0}
    assert ended(airflow, "softpro_reconcile", trigger(airflow, "syncer", "softpro_reconcile", lowered)) == "success"


def test_runs_through_airflow_count_against_the_limit_of_the_users_calls(airflow: Airflow, victim: str) -> None:
    airflow.query(
        "insert into softpro.sync_calls (user_name) select 'syncer' from generate_series(1, 1000)", database="softpro"
    )
    conf = {"organization": victim, "entity_types": ["contacts"]}
    assert ended(airflow, "softpro_sync", trigger(airflow, "syncer", "softpro_sync", conf)) == "failed"
    ended_run = airflow.query("select run_id from softpro.sync_logs where status = 'COMPLETED' limit 1")[0]["run_id"]
    again = trigger(airflow, "syncer", "softpro_remap", conf, ended_run)
    assert ended(airflow, "softpro_remap", again) == "failed"
    airflow.query("delete from softpro.sync_calls where user_name = 'syncer'")
    assert ended(airflow, "softpro_sync", trigger(airflow, "syncer", "softpro_sync", conf)) == "success"


def test_the_answer_of_a_confined_user_does_not_count(airflow: Airflow, attacker: str) -> None:
    organization = f"held-org-{attacker}"
    integration_id = loaded(airflow, organization)
    empty_column(airflow, integration_id, "status")
    assert remap(airflow, organization) == "failed"
    path, index = question(airflow, organization)
    time.sleep(SECONDS_TO_READ)  # Airflow asks again if the answer arrives in the second of the question
    answered = requests.patch(
        f"{airflow.stack.airflow_url}/api/v2{path}/taskInstances/decision.ask/{index}/hitlDetails",
        json={"chosen_options": ["Approve"], "params_input": {}},
        headers={"Authorization": f"Bearer {airflow.token(attacker)}"},
        timeout=30,
    )
    answered.raise_for_status()
    carried_out = f"{path}/taskInstances/decision.carry_out/{index}"
    until(180, lambda: airflow.api("GET", carried_out)["state"] in ("skipped", "success", "failed"))
    assert airflow.api("GET", carried_out)["state"] == "skipped"
    assert open_hold(airflow, integration_id)["status"] == "WAITING"
    body = {"integrationId": integration_id, "reason": "the end of a test"}  # else the next run asks about it, too
    hold = open_hold(airflow, integration_id)["id"]
    airflow.as_user().session.post(f"{airflow.url}/holds/{hold}/reject", json=body).raise_for_status()


def test_a_mistyped_key_of_a_runs_conf_syncs_nobody(airflow: Airflow) -> None:
    started = trigger(airflow, "admin", "softpro_sync", {"organisation": "victim-org"}, run_id="manual__mistyped")
    assert ended(airflow, "softpro_sync", started) == "failed"
    assert airflow.query("select id from softpro.sync_logs where run_id = 'manual__mistyped'") == []
