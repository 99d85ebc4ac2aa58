"""Serve the plugin as Airflow's API server does, without Airflow's scheduler: `python -m tests.support.api_server`.

The login, the tokens, the rights and the access log are Airflow's own. Airflow's database holds only what they need. A
run that the plugin starts is accepted, and never begins.
Prints one line of JSON with a token for each user, then serves until its input ends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import requests

from softpro_demo.stack import free_port

from .forked_process import AIRFLOW, ForkedProcess

ROOT = Path(__file__).resolve().parents[2]
USERS = {"admin": "admin", "operator": "op", "syncer": "user", "reader": "viewer"}
PREFIX = "/api/v1/integrations/softpro"
JWT_SECRET = "a secret for tokens, long enough for the signature of a token " * 2


@dataclass(frozen=True)
class Certificate:
    """A certificate for a host name, in a file with its key."""

    host: str
    file: Path


@dataclass(frozen=True)
class ApiServer:
    """A running API server."""

    origin: str
    tokens: Mapping[str, str]
    log: Path
    pid: int

    @property
    def url(self) -> str:
        return self.origin + PREFIX

    def as_user(self, user: str = "admin") -> requests.Session:
        """Return a session with the user's token."""
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {self.tokens[user]}"
        return session

    def airflow_responds_within(self) -> float:
        """Return the seconds that a route of Airflow takes, which needs one of Airflow's threads."""
        begun = time.monotonic()
        requests.get(f"{self.origin}/airflow", timeout=60).raise_for_status()
        return time.monotonic() - begun


@contextmanager
def running(
    settings: Mapping[str, str], tls: Certificate | None = None, port: int | None = None
) -> Iterator[ApiServer]:
    """Run a server with these settings for the block, with a certificate over TLS."""
    with tempfile.TemporaryDirectory() as home:
        port = port or free_port(0)
        origin = f"https://{tls.host}:{port}" if tls else f"http://127.0.0.1:{port}"
        log = Path(home) / "server.log"
        environment = {
            "SOFTPRO_OAUTH_REDIRECT_URI": f"{origin}{PREFIX}/callback",
            "FRONTEND_URL": "http://127.0.0.1:3000",
            **settings,
            "PYTHONPATH": os.pathsep.join(str(ROOT / each) for each in ("include", "plugins", ".")),
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
            "AIRFLOW__API__SECRET_KEY": "a secret key for tests",
            "AIRFLOW__API_AUTH__JWT_SECRET": JWT_SECRET,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        }
        with log.open("wb") as output:
            process = ForkedProcess(
                *("tests.support.api_server", str(port), *((str(tls.file),) if tls else ())),
                environment=environment,
                preloaded=AIRFLOW,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = next((line for line in process.stdout if line.startswith('{"tokens"')), None)
            assert line is not None, log.read_text()
            Thread(target=process.stdout.read, daemon=True).start()
            _wait_until_ready(port, log)
            yield ApiServer(origin, json.loads(line)["tokens"], log, process.pid)
        finally:
            process.stdin.close()
            process.kill()
            process.wait()
            process.stdout.close()


def _wait_until_ready(port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def main() -> None:
    """Serve the plugin on the port in the arguments, with the certificate in the file after it, if any."""
    import uvicorn
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.auth.middlewares.refresh_token import JWTRefreshMiddleware
    from airflow.api_fastapi.common.http_access_log import HttpAccessLogMiddleware
    from airflow.models.revoked_token import RevokedToken
    from fastapi import FastAPI

    from airflow import settings
    from softpro_web.app import create_app

    settings.configure_vars()  # type: ignore[no-untyped-call]  # Airflow may have been imported with others
    settings.configure_orm()  # type: ignore[no-untyped-call]
    RevokedToken.metadata.create_all(settings.engine, tables=[RevokedToken.__table__])
    manager: Any = create_auth_manager()
    tokens = {
        name: manager.generate_jwt(SimpleAuthManagerUser(username=name, role=role)) for name, role in USERS.items()
    }
    print(json.dumps({"tokens": tokens}), flush=True)
    os.dup2(2, 1)  # everything else goes to the log
    app = FastAPI(openapi_url=None)
    sys.modules["airflow.api_fastapi.main"] = SimpleNamespace(app=app)  # type: ignore[assignment]

    @app.get("/airflow")
    def airflow_route() -> dict[str, bool]:
        return {"alive": True}

    @app.post("/api/v2/dags/{dag_id}/dagRuns")
    def accept_run(dag_id: str) -> dict[str, str]:
        return {"dag_id": dag_id}

    app.mount(PREFIX, create_app())
    app.state.auth_manager = manager
    app.add_middleware(JWTRefreshMiddleware)
    app.add_middleware(HttpAccessLogMiddleware)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        ssl_certfile=sys.argv[2] if len(sys.argv) > 2 else None,
        access_log=False,
        log_config=None,
        http="httptools",
    )


if __name__ == "__main__":
    main()
