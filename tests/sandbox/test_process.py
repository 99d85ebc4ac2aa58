"""Test the sandbox as a separate process: start, broken connections, stop."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import softpro_sandbox
from softpro_sandbox.__main__ import app
from softpro_sandbox.switches import Switches

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(softpro_sandbox.__file__).parents[1])}


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "softpro_sandbox", "--transactions", "20", "--contacts", "5", *options]


@pytest.fixture
def running() -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    options = ("--port", "0", "--organizations", "2", "--set", "rateLimit=7", "--set", "rotateRefresh=false")
    process = subprocess.Popen(
        command(*options), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def test_it_says_where_it_is_serves_resets_and_stops_cleanly(
    running: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    process, announced = running
    form = {
        "response_type": "code",
        "client_id": announced["clientId"],
        "redirect_uri": "http://127.0.0.1:1/cb",
        "decision": "allow",
    }
    client = {"client_id": announced["clientId"], "client_secret": "sandbox-secret"}
    with httpx.Client(trust_env=False) as http:
        settings = http.get(f"{announced['url']}/sandbox/settings").json()
        assert (settings["rateLimit"], settings["rotateRefresh"]) == (7, False)
        assert http.get(announced["openapi"]).json()["info"]["title"] == "SoftPro 360 sandbox"
        code = httpx.URL(http.post(announced["authorizeUrl"], data=form).headers["location"]).params["code"]
        form = client | {"grant_type": "authorization_code", "code": code, "redirect_uri": form["redirect_uri"]}
        tokens = http.post(announced["tokenUrl"], data=form).json()
        http.headers["authorization"] = f"Bearer {tokens['access_token']}"
        page = http.get(f"{announced['apiBaseUrl']}/transactions")
        assert page.json()["pagination"]["total"] == 20
        assert len(page.headers.get_list("date")) == 1
        http.patch(f"{announced['url']}/sandbox/settings", json={"lostWrite": 1})
        with pytest.raises(httpx.ReadError):
            http.post(f"{announced['apiBaseUrl']}/transactions", json={"orderType": "SALE"})
        assert http.get(f"{announced['apiBaseUrl']}/transactions").json()["pagination"]["total"] == 21
        http.patch(f"{announced['url']}/sandbox/settings", json={"tokenFaults": 1})
        with pytest.raises(httpx.ReadError):
            http.post(
                announced["tokenUrl"],
                data=client | {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]},
            )
        assert http.post(announced["revokeUrl"], data=client | {"token": tokens["refresh_token"]}).status_code == 200
        assert http.get(f"{announced['apiBaseUrl']}/user/profile").status_code == 401
    process.send_signal(signal.SIGTERM)
    rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
    assert "Traceback" not in errors


def test_a_taken_port_is_one_clear_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(command("--port", port), env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"Cannot listen on 127.0.0.1:{port}: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("setting", ["lag", "lag=soon", "nonsense=1", "error500=2"])
def test_a_bad_switch_is_wrong_use(setting: str) -> None:
    ended = CliRunner().invoke(app, ["--set", setting])
    assert ended.exit_code == 2
    assert setting.partition("=")[0] in ended.stderr


def test_help_names_every_switch() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    assert all(f"{name}=" in text for name in Switches().to_json())
