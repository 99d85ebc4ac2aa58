"""Run the webhook receiver as a process, and sign deliveries as SoftPro does."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests
from psycopg.conninfo import conninfo_to_dict

from .forked_process import AIRFLOW, ForkedProcess

SECRET = "the secret that webhooks are signed with"
PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
START_SECONDS = 60


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """Return the headers of a delivery of this body."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", "X-SoftPro-Signature": signature}


@contextmanager
def receiver(settings: Mapping[str, str], port: int) -> Iterator[ForkedProcess]:
    """Serve the plugin's routes without the rest of Airflow. Yield the process once they respond."""
    at = conninfo_to_dict(settings["SOFTPRO_DATABASE_URL"])
    connection = {"conn_type": "postgres", "host": at["host"], "login": at["user"], "schema": at["dbname"]}
    with tempfile.TemporaryDirectory() as home:
        process = ForkedProcess(
            *("uvicorn", "--factory", "softpro_web.app:create_app"),
            *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error"),
            preloaded=AIRFLOW,
            environment={
                **settings,
                "PYTHONPATH": os.pathsep.join([str(PLUGINS), settings.get("PYTHONPATH", "")]),
                "AIRFLOW_HOME": home,
                "AIRFLOW_CONN_SOFTPRO_POSTGRES": json.dumps(connection),
            },
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/", process)
            yield process
        finally:
            process.kill()
            process.wait()


def _wait_for(address: str, process: ForkedProcess) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            requests.get(address, timeout=5)
            return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError("the receiver did not start")
