"""Everything the product needs, on this machine: PostgreSQL, the sandbox, and Airflow's components, each a process."""

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
from psycopg.conninfo import conninfo_to_dict

from softpro.db import embedded, migrations
from softpro.db.database import Database
from softpro_demo.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
START_SECONDS = 180
ADMIN = "admin"


class DidNotStart(Exception):
    """A component ended early or did not answer in time; the message says which, and where its log is."""


@dataclass(frozen=True)
class Size:
    """How much the sandbox holds, per organization."""

    transactions: int = 3000
    contacts: int = 1200
    organizations: int = 1


class Stack:
    """The running parts. `start` brings them up, `stop` takes them down; the data below `home` stay."""

    def __init__(
        self,
        home: Path,
        size: Size,
        say: Callable[[str], None] = lambda what: None,
        users: Mapping[str, str] = MappingProxyType({ADMIN: "admin"}),
        port: int = 8080,
    ) -> None:
        """`users`: {name: role} of Airflow's SimpleAuthManager; `say` is told what is being started. `port`: Airflow's,
        unless it is taken; 0: any."""
        self.home = home.resolve()
        self.size = size
        self.say = say
        self.users = users
        self.port = port
        self._started: Processes | None = None
        self._lock: IO[str] | None = None
        self._components: dict[str, subprocess.Popen[bytes]] = {}
        self.database: Database
        self.sandbox: dict[str, Any] = {}
        self.airflow_url = ""
        self.environment: dict[str, str] = {}

    @property
    def password(self) -> str:
        """The password of every Airflow user here."""
        return self._secrets()["password"]

    @property
    def webhook_secret(self) -> str:
        """What the sandbox signs webhooks with."""
        return self._secrets()["webhook_secret"]

    def start(self) -> None:
        """Starts everything and waits until it answers. Raises DidNotStart, DatabaseUnavailable."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.home / "lock")
        self._started = Processes(self.home / "logs", self.home / "postgres")
        self.say("PostgreSQL")
        self.database = embedded.start(self.home / "postgres")
        embedded.start(self.home / "postgres", database="airflow")
        migrations.migrate(self.database)
        self.say(f"sandbox with {self.size.transactions:,} transactions and {self.size.contacts:,} contacts")
        self._start_sandbox()
        port = free_port(self.port)
        self.airflow_url = f"http://127.0.0.1:{port}"
        self.environment = self._environment(port)
        self.say("Airflow's own tables")
        self._airflow_migrate()
        self.say("Airflow")
        components = self._components = {name: self._airflow(name) for name in COMPONENTS}
        self._wait("Airflow's API server", "api-server", components["api-server"], self._api_answers)
        self._wait("Airflow's scheduler", "scheduler", components["scheduler"], self._sync_dag_is_there)

    def require_alive(self) -> None:
        """Raises DidNotStart when a component of Airflow has ended."""
        for name, process in self._components.items():
            if process.poll() is not None:
                log = self.processes.logs / f"{name}.log"
                raise DidNotStart(f"Airflow's {name} ended with exit code {process.returncode}; its log is {log}")

    def stop(self) -> None:
        """Stops everything and waits until it is gone."""
        if self._started is not None:
            self._started.close()
        if self._lock is not None:
            self._lock.close()

    @property
    def processes(self) -> Processes:
        assert self._started is not None, "the stack was not started"
        return self._started

    def token(self, user: str = ADMIN) -> str:
        """A Bearer token of this user, from Airflow's own login."""
        answer = requests.post(
            f"{self.airflow_url}/auth/token", json={"username": user, "password": self.password}, timeout=30
        )
        answer.raise_for_status()
        token: str = answer.json()["access_token"]
        return token

    def _start_sandbox(self) -> None:
        size = self.size
        ready = self.processes.logs / "sandbox.log"
        ready.unlink(missing_ok=True)
        process = self.processes.start(
            "sandbox",
            [
                *(sys.executable, "-m", "softpro_sandbox"),
                *("--port", str(free_port(8360))),
                *("--organizations", str(size.organizations)),
                *("--transactions", str(size.transactions), "--contacts", str(size.contacts)),
            ],
            {"SANDBOX_CLIENT_SECRET": self._secrets()["client_secret"]},
        )

        def announced() -> bool:
            for line in ready.read_text(encoding="utf-8").splitlines():
                if line.startswith("{"):
                    self.sandbox = json.loads(line)
            return bool(self.sandbox)

        self._wait("The sandbox", "sandbox", process, announced)

    def _environment(self, port: int) -> dict[str, str]:
        """What Airflow and the product are told, and nothing of it in a command line."""
        kept, url = self._secrets(), self.airflow_url
        directory = conninfo_to_dict(self.database.conninfo)["host"]
        home = self.home / "airflow"
        (home / "config").mkdir(parents=True, exist_ok=True)
        local_settings = home / "config" / "airflow_local_settings.py"
        local_settings.unlink(missing_ok=True)
        local_settings.symlink_to(ROOT / "config" / "airflow_local_settings.py")
        passwords = home / "passwords.json"
        _write_private(passwords, json.dumps(dict.fromkeys(self.users, kept["password"])))
        connection = {"conn_type": "postgres", "host": directory, "login": "postgres", "schema": "softpro"}
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
            "AIRFLOW__CORE__FERNET_KEY": kept["fernet_key"],
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in self.users.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": kept["api_secret_key"],
            "AIRFLOW__API_AUTH__JWT_SECRET": kept["jwt_secret"],
            "AIRFLOW__DATABASE__CHECK_MIGRATIONS": "False",  # they were done just now
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://postgres@/airflow?host={directory}",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port(8793)),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port(8794)),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
            # Tasks that the last demo's end cut off stand in the way of others until they are found: after 300 s.
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "INTEGRATION_ENCRYPTION_KEY": kept["encryption_key"],
            "SOFTPRO_CLIENT_ID": self.sandbox["clientId"],
            "SOFTPRO_CLIENT_SECRET": kept["client_secret"],
            "SOFTPRO_SANDBOX_BASE_URL": self.sandbox["apiBaseUrl"],
            "SOFTPRO_OAUTH_AUTHORIZE_URL": self.sandbox["authorizeUrl"],
            "SOFTPRO_OAUTH_TOKEN_URL": self.sandbox["tokenUrl"],
            "SOFTPRO_OAUTH_REVOKE_URL": self.sandbox["revokeUrl"],
            "SOFTPRO_OAUTH_REDIRECT_URI": f"{url}/api/v1/integrations/softpro/callback",
            "SOFTPRO_SYNC_BATCH_SIZE": "200",
            "SOFTPRO_WEBHOOK_SECRET": kept["webhook_secret"],
            "FRONTEND_URL": url,
        }

    def _airflow_migrate(self) -> None:
        process = self._airflow("db", "migrate")
        if process.wait() != 0:
            raise DidNotStart(f"`airflow db migrate` failed; its log is {self.processes.logs / 'db.log'}")

    def _airflow(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "airflow", *arguments]
        return self.processes.start(arguments[0], command, self.environment)

    def _api_answers(self) -> bool:
        answer = requests.get(f"{self.airflow_url}/api/v2/monitor/health", timeout=5)
        return bool(answer.ok)

    def _sync_dag_is_there(self) -> bool:
        headers = {"Authorization": f"Bearer {self.token()}"}
        health = requests.get(f"{self.airflow_url}/api/v2/monitor/health", timeout=5).json()
        dag = requests.get(f"{self.airflow_url}/api/v2/dags/softpro_sync", headers=headers, timeout=5)
        return bool(dag.ok) and health["scheduler"]["status"] == "healthy"

    def _wait(self, what: str, log: str, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        path = self.processes.logs / f"{log}.log"
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise DidNotStart(f"{what} ended with exit code {process.returncode}; its log is {path}")
            try:
                if ready():
                    return
            except (requests.RequestException, OSError, KeyError):
                pass  # not up yet
            time.sleep(0.25)
        raise DidNotStart(f"{what} did not answer within {START_SECONDS} s; its log is {path}")

    def _secrets(self) -> dict[str, str]:
        """Made once, kept in a file that only its owner reads, so that a later demo opens the same data."""
        path = self.home / "secrets.json"
        kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if "webhook_secret" not in kept:  # an older demo had none
            from cryptography.fernet import Fernet

            names = ("client_secret", "api_secret_key", "jwt_secret", "webhook_secret")
            made = {name: secrets.token_urlsafe(32) for name in names}
            made |= {"password": secrets.token_urlsafe(9), "encryption_key": secrets.token_hex(32)}
            kept = {**made, "fernet_key": Fernet.generate_key().decode(), **kept}
            _write_private(path, json.dumps(kept))
        return kept


def free_port(wanted: int) -> int:
    """The port if nobody listens on it, else one that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DidNotStart("No free port is left on this machine")


def _lock(path: Path) -> IO[str]:
    """Holds the directory for this process, as long as the file is open. Raises DidNotStart when another one does."""
    file = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise DidNotStart(f"Another demo runs on {path.parent}: stop it, or choose another --home") from None
    return file


def _write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner reads, whole or not at all."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.replace(path)
