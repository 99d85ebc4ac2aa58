"""Run what the product needs on this machine: PostgreSQL, the sandbox and Airflow's components, each as a process."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import requests
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from softpro.db import embedded, migrations, roles
from softpro.db.database import Database
from softpro_demo.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
START_TIMEOUT_SECONDS = 180
ADMIN = "admin"
LOADER, API_SERVER = "softpro_loader", "softpro_api"
"""The database logins of the tasks and of the API server. The embedded server asks for no password."""


class StartError(Exception):
    """A component ended early or was not ready in time; the message names it and its log."""


@dataclass(frozen=True)
class Size:
    """The number of records at the sandbox, per organization."""

    transactions: int = 3000
    contacts: int = 1200
    organizations: int = 1


class Stack:
    """The running components. `start` starts them and `stop` stops them; the data below `home` persist."""

    def __init__(
        self,
        home: Path,
        size: Size,
        report: Callable[[str], None] = lambda what: None,
        database_ready: Callable[[Database], None] = lambda database: None,
        users: Mapping[str, str] = MappingProxyType({ADMIN: "admin"}),
        port: int = 8080,
    ) -> None:
        """Prepare a stack without starting it.

        Args:
            home: the directory for data, logs and secrets.
            size: the number of records at the sandbox.
            report: receives the name of each component before it starts.
            database_ready: receives the product's database once it is migrated, before Airflow starts.
            users: the role of each user of Airflow's SimpleAuthManager, by name.
            port: Airflow's port if it is free, else another one; 0 takes any.
        """
        self.home = home.resolve()
        self.size = size
        self.report = report
        self.database_ready = database_ready
        self.users = users
        self.port = port
        self._processes: Processes | None = None
        self._lock: IO[str] | None = None
        self._components: dict[str, subprocess.Popen[bytes]] = {}
        self.database: Database
        self.sandbox: dict[str, Any] = {}
        self.airflow_url = ""
        self.environment: dict[str, str] = {}

    @property
    def password(self) -> str:
        """Return the password of every Airflow user of this stack."""
        return self._secrets()["password"]

    @property
    def webhook_secret(self) -> str:
        """Return the secret with which the sandbox signs webhooks."""
        return self._secrets()["webhook_secret"]

    def start(self) -> None:
        """Start all components and wait until they are ready. Raise StartError or DatabaseUnavailable."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.home / "lock")
        self._processes = Processes(self.home / "logs", self.home / "postgres")
        self.report("PostgreSQL")
        self.database = embedded.start(self.home / "postgres")
        embedded.start(self.home / "postgres", database="airflow")
        logins = {roles.OWNER: self._as_login(LOADER), roles.WEB: self._as_login(API_SERVER)}
        migrations.migrate(self.database, logins)
        self.database_ready(self.database)
        self.report(f"sandbox with {self.size.transactions:,} transactions and {self.size.contacts:,} contacts")
        self._start_sandbox()
        port = self._port(self.port)
        self.airflow_url = f"http://127.0.0.1:{port}"
        self.environment = self._environment(port)
        self.report("Airflow's own tables")
        self._airflow_migrate()
        self.report("Airflow")
        components = self._components = {name: self._airflow(name) for name in COMPONENTS}
        self._wait("Airflow's API server", "api-server", components["api-server"], self._api_is_ready)
        self._wait("Airflow's scheduler", "scheduler", components["scheduler"], self._sync_dag_is_ready)

    def require_alive(self) -> None:
        """Raise StartError when a component of Airflow has ended."""
        for name, process in self._components.items():
            if process.poll() is not None:
                log = self.processes.logs / f"{name}.log"
                raise StartError(f"Airflow's {name} ended with exit code {process.returncode}. See its log: {log}")

    def stop(self) -> None:
        """Stop all components and wait until they have ended."""
        if self._processes is not None:
            self._processes.close()
        if self._lock is not None:
            self._lock.close()

    @property
    def processes(self) -> Processes:
        assert self._processes is not None, "the stack was not started"
        return self._processes

    def token(self, user: str = ADMIN) -> str:
        """Return a Bearer token of this user from Airflow's own login."""
        response = requests.post(
            f"{self.airflow_url}/auth/token", json={"username": user, "password": self.password}, timeout=30
        )
        response.raise_for_status()
        token: str = response.json()["access_token"]
        return token

    def _as_login(self, login: str) -> Database:
        return Database(make_conninfo(self.database.conninfo, user=login))

    def _start_sandbox(self) -> None:
        size = self.size
        ready = self.processes.logs / "sandbox.log"
        ready.unlink(missing_ok=True)
        process = self.processes.start(
            "sandbox",
            [
                *(sys.executable, "-m", "softpro_sandbox"),
                *("--port", str(self._port(8360))),
                *("--organizations", str(size.organizations)),
                *("--transactions", str(size.transactions), "--contacts", str(size.contacts)),
            ],
            {"SANDBOX_CLIENT_SECRET": self._secrets()["client_secret"]},
        )

        def is_announced() -> bool:
            for line in ready.read_text(encoding="utf-8").splitlines():
                if line.startswith("{"):
                    self.sandbox = json.loads(line)
            return bool(self.sandbox)

        self._wait("The sandbox", "sandbox", process, is_announced)

    def _port(self, preferred: int) -> int:
        """Return a free port: the preferred one, or any if the stack takes any, so that two can start at once."""
        return free_port(preferred if self.port else 0)

    def _environment(self, port: int) -> dict[str, str]:
        """Return the environment of Airflow and the product; no secret is part of a command line."""
        stored, url = self._secrets(), self.airflow_url
        directory = conninfo_to_dict(self.database.conninfo)["host"]
        home = self.home / "airflow"
        (home / "config").mkdir(parents=True, exist_ok=True)
        local_settings = home / "config" / "airflow_local_settings.py"
        local_settings.unlink(missing_ok=True)
        local_settings.symlink_to(ROOT / "config" / "airflow_local_settings.py")
        passwords = home / "passwords.json"
        _write_private(passwords, json.dumps(dict.fromkeys(self.users, stored["password"])))
        connection = {"conn_type": "postgres", "host": directory, "login": LOADER, "schema": "softpro"}
        return {
            "PYTHONPATH": str(ROOT / "include"),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_SOFTPRO_POSTGRES": json.dumps(connection),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__CORE__FERNET_KEY": stored["fernet_key"],
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in self.users.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": stored["api_secret_key"],
            "AIRFLOW__API_AUTH__JWT_SECRET": stored["jwt_secret"],
            "AIRFLOW__DATABASE__CHECK_MIGRATIONS": "False",  # they have just run
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://postgres@/airflow?host={directory}",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self._port(8793)),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self._port(8794)),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
            # Tasks interrupted by the end of the last demo block others until they are found, by default after 300 s.
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "INTEGRATION_ENCRYPTION_KEY": stored["encryption_key"],
            "SOFTPRO_CLIENT_ID": self.sandbox["clientId"],
            "SOFTPRO_CLIENT_SECRET": stored["client_secret"],
            "SOFTPRO_WEB_DATABASE_URL": self._as_login(API_SERVER).conninfo,
            "SOFTPRO_SANDBOX_BASE_URL": self.sandbox["apiBaseUrl"],
            "SOFTPRO_OAUTH_AUTHORIZE_URL": self.sandbox["authorizeUrl"],
            "SOFTPRO_OAUTH_TOKEN_URL": self.sandbox["tokenUrl"],
            "SOFTPRO_OAUTH_REVOKE_URL": self.sandbox["revokeUrl"],
            "SOFTPRO_OAUTH_REDIRECT_URI": f"{url}/api/v1/integrations/softpro/callback",
            "SOFTPRO_SYNC_BATCH_SIZE": "200",
            "SOFTPRO_WEBHOOK_SECRET": stored["webhook_secret"],
            "FRONTEND_URL": url,
        }

    def _airflow_migrate(self) -> None:
        process = self._airflow("db", "migrate")
        if process.wait() != 0:
            raise StartError(f"`airflow db migrate` failed. See its log: {self.processes.logs / 'db.log'}")

    def _airflow(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "airflow", *arguments]
        return self.processes.start(arguments[0], command, self.environment)

    def _api_is_ready(self) -> bool:
        response = requests.get(f"{self.airflow_url}/api/v2/monitor/health", timeout=5)
        return bool(response.ok)

    def _sync_dag_is_ready(self) -> bool:
        headers = {"Authorization": f"Bearer {self.token()}"}
        health = requests.get(f"{self.airflow_url}/api/v2/monitor/health", timeout=5).json()
        dag = requests.get(f"{self.airflow_url}/api/v2/dags/softpro_sync", headers=headers, timeout=5)
        return bool(dag.ok) and health["scheduler"]["status"] == "healthy"

    def _wait(self, what: str, log: str, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        path = self.processes.logs / f"{log}.log"
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise StartError(f"{what} ended with exit code {process.returncode}. See its log: {path}")
            try:
                if ready():
                    return
            except (requests.RequestException, OSError, KeyError):
                pass  # not up yet
            time.sleep(0.25)
        raise StartError(f"{what} was not ready within {START_TIMEOUT_SECONDS} s. See its log: {path}")

    def _secrets(self) -> dict[str, str]:
        """Return the secrets, generated once and kept in a private file for later demos on the same data."""
        path = self.home / "secrets.json"
        stored: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if "webhook_secret" not in stored:  # secrets of an older demo lack it
            from cryptography.fernet import Fernet

            names = ("client_secret", "api_secret_key", "jwt_secret", "webhook_secret")
            generated = {name: secrets.token_urlsafe(32) for name in names}
            generated |= {"password": secrets.token_urlsafe(9), "encryption_key": secrets.token_hex(32)}
            stored = {**generated, "fernet_key": Fernet.generate_key().decode(), **stored}
            _write_private(path, json.dumps(stored))
        return stored


def free_port(preferred: int) -> int:
    """Return the port if it is free, else a free one."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StartError("This machine has no free port")


def _lock(path: Path) -> IO[str]:
    """Lock the directory for this process until the file is closed.

    Raise StartError when another process holds the lock.
    """
    file = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StartError(f"Another demo uses {path.parent}. Stop it, or choose another --home") from None
    return file


def _write_private(path: Path, text: str) -> None:
    """Write a file atomically that only its owner can read."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
