"""Check the compose file by the Compose Specification, and the Dockerfile. No Docker engine is needed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from podman_compose import rec_subs
from psycopg.conninfo import conninfo_to_dict

from softpro import settings
from softpro.db.migrations import SQL_DIRECTORY

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yaml"
REQUIRED = sorted(set(re.findall(r"\$\{(\w+):\?", FILE.read_text(encoding="utf-8"))))
SERVICES: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
AIRFLOW = ("migrate", "api-server", "scheduler", "dag-processor", "triggerer", "worker")
RUNNING = [name for name in SERVICES if name != "migrate"]


def resolve(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the file's services with these variables filled in. Raises ValueError for one that is required."""
    compose = rec_subs(yaml.safe_load(FILE.read_text(encoding="utf-8")), dict(variables))
    services: dict[str, Any] = compose["services"]
    return services


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    """Return the services with the variables filled in; each value is `the-<name>`."""
    return resolve({name: f"the-{name}" for name in REQUIRED})


def secrets_of(service: Mapping[str, Any]) -> set[str]:
    """Return which secrets of compose a service's environment holds."""
    environment = service["environment"]
    unset = {name for name, value in environment.items() if value is None and re.search("KEY|SECRET|PASSWORD", name)}
    return unset | {name for name in REQUIRED if f"the-{name}" in " ".join(map(str, environment.values()))}


def test_every_service_is_there() -> None:
    assert set(SERVICES) == {"postgres", "redis", *AIRFLOW}


def test_the_file_follows_the_compose_specification() -> None:
    compose = rec_subs(yaml.safe_load(FILE.read_text(encoding="utf-8")), dict.fromkeys(REQUIRED, "set"))
    assert set(PyCompose.from_yaml(yaml.safe_dump(compose)).service_names()) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_names_only_services_and_volumes_that_exist(name: str) -> None:
    service = SERVICES[name]
    declared = yaml.safe_load(FILE.read_text(encoding="utf-8"))["volumes"]
    mounted = {volume.split(":")[0] for volume in service.get("volumes", [])}
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    assert {volume for volume in mounted if not volume.startswith((".", "/"))} <= set(declared)


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_missing_secret_is_named(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        resolve({name: "set" for name in REQUIRED if name != missing})


def test_every_secret_is_required() -> None:
    variables = set(re.findall(r"\$\{(\w+)", FILE.read_text(encoding="utf-8")))
    assert {name for name in variables if re.search("KEY|SECRET|PASSWORD|CLIENT", name)} == set(REQUIRED)


@pytest.mark.parametrize("name", ["api-server", "worker"])
def test_every_setting_of_the_product_reaches_every_service_that_calls_softpro(name: str) -> None:
    groups = [group for group in settings.Group.__subclasses__() if group is not settings.DatabaseSettings]
    fields = [field for group in groups for field in group.model_fields.values()]
    passed = SERVICES[name]["environment"]
    assert {field.alias for field in fields} <= set(passed)
    assert all(passed[str(field.alias)] for field in fields if field.is_required())


def test_a_service_gets_only_the_secrets_that_it_needs(resolved: dict[str, Any]) -> None:
    airflow = {"AIRFLOW_DATABASE_PASSWORD", "AIRFLOW__CORE__FERNET_KEY"}
    client = {"INTEGRATION_ENCRYPTION_KEY", "SOFTPRO_CLIENT_ID", "SOFTPRO_CLIENT_SECRET", "SOFTPRO_WEBHOOK_SECRET"}
    tokens, logs = "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY"
    assert {name: secrets_of(service) for name, service in resolved.items()} == {
        "postgres": {"POSTGRES_PASSWORD"},
        "redis": {"REDIS_PASSWORD"},
        "migrate": {*airflow, "POSTGRES_PASSWORD", "SOFTPRO_LOADER_PASSWORD", "SOFTPRO_WEB_PASSWORD"},
        "api-server": {*airflow, *client, tokens, logs, "SOFTPRO_WEB_PASSWORD", "AIRFLOW_ADMIN_PASSWORD"},
        "scheduler": {*airflow, tokens, "REDIS_PASSWORD"},
        "dag-processor": airflow,
        "triggerer": {*airflow, logs, "SOFTPRO_LOADER_PASSWORD"},
        "worker": {*airflow, *client, logs, "REDIS_PASSWORD", "SOFTPRO_LOADER_PASSWORD"},
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_cannot_write_its_image_gain_rights_or_take_the_machine(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert 0 < service["pids_limit"] <= 512
    assert service.get("user") not in ("root", "0")
    assert name in AIRFLOW or service["user"]  # the product's image names its own


@pytest.mark.parametrize("name", AIRFLOW)
def test_airflow_can_write_where_it_has_to(name: str) -> None:
    folders = [entry.split(":")[0] for entry in SERVICES[name]["tmpfs"]]
    assert folders == ["/opt/airflow", "/tmp"]  # noqa: S108 - a folder of the container
    assert SERVICES[name]["volumes"] == ["airflow-logs:/opt/airflow/logs"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^COPY .* /opt/airflow\S*$", dockerfile, re.MULTILINE) == []  # the temporary folder hides it


@pytest.mark.parametrize("name", ["worker", "triggerer"])
def test_airflow_and_the_command_line_find_the_same_database(name: str, resolved: dict[str, Any]) -> None:
    environment = resolved[name]["environment"]
    connection = json.loads(environment["AIRFLOW_CONN_SOFTPRO_POSTGRES"])
    address = conninfo_to_dict(environment["SOFTPRO_DATABASE_URL"])
    assert connection["conn_type"] == "postgres"
    assert (connection["host"], connection["login"], connection["password"], connection["schema"]) == (
        *(address["host"], address["user"]),
        *(address["password"], address["dbname"]),
    )
    assert address["password"] == "the-SOFTPRO_LOADER_PASSWORD"


def test_only_the_api_server_is_published_and_only_on_this_machine() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "api-server": ["127.0.0.1:8080:8080"]
    }


@pytest.mark.parametrize("name", RUNNING)
def test_every_service_that_stays_up_is_watched_and_restarted(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_the_migration_runs_once_and_before_all_others() -> None:
    migrate = SERVICES["migrate"]
    script = migrate["command"][-1]
    assert migrate["restart"] == "no"
    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert script.index("sql/airflow_database.py") < script.index("airflow db migrate")
    assert script.index("airflow db migrate") < script.index("python -m softpro migrate")
    for name in set(AIRFLOW) - {"migrate"}:
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_the_executors_requirements_are_installed_and_running() -> None:
    assert SERVICES["scheduler"]["environment"]["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert "apache-airflow-providers-celery==" in (ROOT / "requirements.txt").read_text(encoding="utf-8")
    for name in ("scheduler", "worker"):
        assert SERVICES[name]["depends_on"]["redis"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", AIRFLOW)
def test_scripts_inside_the_file_are_valid(name: str) -> None:
    command = SERVICES[name].get("command", [])
    if command[:1] != ["bash"]:
        assert command[0] == "airflow"
        return
    script = command[-1]
    subprocess.run(["/bin/bash", "-n", "-c", script], check=True)
    for python in re.findall(r"<<'END'\n(.*?)^END$", script, re.DOTALL | re.MULTILINE):
        compile(python, name, "exec")


def test_the_image_holds_the_product_where_it_looks_for_itself() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = dict(re.findall(r"^COPY (?:--\S+ )?(\S+) (\S+)$", dockerfile, re.MULTILINE))
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [source for source in copied if not (ROOT / source).exists() or f"!{source}" not in allowed] == []
    assert {"dags", "plugins", "include", "sql", "config"} <= set(copied)
    assert copied["config"] == "config"
    assert "PYTHONPATH=/opt/softpro/include:/opt/softpro/config" in dockerfile
    assert SQL_DIRECTORY == ROOT / "sql"  # next to include/ in the repository and in the image
    assert copied["sql"] == "sql"


def test_the_modules_that_the_scheduler_imports_early_exist() -> None:
    source = ast.parse((ROOT / "config" / "airflow_local_settings.py").read_text(encoding="utf-8"))
    [names] = [
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ALL_THAT_TASKS_USE"
    ]
    product = ROOT / "include" / "softpro"
    assert [name for name in names if not (product / f"{name.replace('.', '/')}.py").is_file()] == []


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")
