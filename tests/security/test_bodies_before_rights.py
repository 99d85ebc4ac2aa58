"""Refuse a request by its route before its body is read."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from .conftest import Web, error_of

NOWHERE = "00000000-0000-0000-0000-000000000001"
CHANGES = [
    ("POST", "/connect", 64),
    ("PATCH", f"/settings/{NOWHERE}", 64),
    ("PUT", "/mappings", 2048),
    ("POST", "/mappings/preview", 2048),
    ("POST", "/sync/contacts", 64),
    ("PUT", f"/quarantine/{NOWHERE}", 2048),
    ("POST", f"/conflicts/{NOWHERE}/resolve", 1024),
    ("PUT", "/access", 512),
]


def unsent(web: Web, method: str, path: str, user: str, announced: int) -> bytes:
    """Send the head of a request with a body that never comes, and return the start of the response."""
    address = urlsplit(web.url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        head = (
            f"{method} {address.path}{path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer {web.api.tokens[user]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {announced}\r\n\r\n"
        )
        connection.sendall(head.encode())
        return connection.recv(4096)


@pytest.mark.parametrize(("method", "path", "kib"), CHANGES)
def test_a_caller_without_the_right_is_refused_before_the_body_arrives(
    web: Web, method: str, path: str, kib: int
) -> None:
    assert unsent(web, method, path, "reader", 1000).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(("method", "path", "kib"), CHANGES)
def test_a_body_beyond_the_limit_of_its_route_is_refused_with_that_limit(
    web: Web, method: str, path: str, kib: int
) -> None:
    announced = unsent(web, method, path, "admin", kib * 1024 + 1)
    chunks = (b" " * 1024 for _ in range(kib + 1))
    sent = web.as_user().request(method, web.url + path, data=chunks, timeout=30)

    assert announced.startswith(b"HTTP/1.1 413 ")
    assert error_of(sent) == (413, "TOO_LARGE")
    assert sent.json()["error"]["message"] == f"The body of this request has at most {kib} KiB"


def test_large_bodies_of_a_viewer_do_not_delay_the_server(web: Web) -> None:
    body = b'{"mappings": [' + b'{"a": 1},' * 900_000 + b"{}]}"  # 8 MB
    reader = web.as_user("reader")

    def attack(_: int) -> int:
        try:
            return reader.put(f"{web.url}/mappings", data=body, timeout=60).status_code
        except requests.ConnectionError:  # the server has responded, and closed
            return 403

    with ThreadPoolExecutor(10) as attackers:
        refused = attackers.map(attack, range(20))
        slowest = 0.0
        for _ in range(20):
            begun = time.monotonic()
            assert requests.get(f"{web.url}/health", timeout=30).status_code == 200
            slowest = max(slowest, time.monotonic() - begun)
        assert set(refused) <= {403, 413}
    assert slowest < 1


def test_large_bodies_are_read_a_few_at_once(web: Web) -> None:
    """Hold a user's places with bodies that do not come: their next one is refused at once, others are not."""
    address = urlsplit(web.url)
    held = []
    try:
        for _ in range(2):
            connection = socket.create_connection((address.hostname, address.port), timeout=5)
            connection.sendall(
                f"PUT {address.path}/mappings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                f"{web.api.tokens['admin']}\r\nContent-Length: 1000000\r\n\r\n".encode()
            )
            held.append(connection)
        time.sleep(1)
        refused = web.as_user().put(f"{web.url}/mappings", data=b" " * 100_000, timeout=5)
        small = web.as_user().put(f"{web.url}/mappings", json={}, timeout=5)
        other = web.as_user("operator").put(f"{web.url}/mappings", data=b" " * 100_000, timeout=5)
    finally:
        for connection in held:
            connection.close()

    assert error_of(refused) == (503, "BUSY")
    assert int(refused.headers["Retry-After"]) >= 1
    assert error_of(small) == error_of(other) == (400, "VALIDATION_ERROR")


def test_an_unstorable_value_and_broken_json_are_named(web: Web) -> None:
    headers = {"Content-Type": "application/json"}
    nul = web.as_user().post(f"{web.url}/connect", data=rb'{"organizationId": "a\u0000"}', headers=headers, timeout=30)
    broken = web.as_user().post(f"{web.url}/connect", data=b'{"organizationId": ', headers=headers, timeout=30)

    assert nul.json()["error"]["details"] == [{"field": "organizationId", "message": "holds a NUL character"}]
    assert error_of(broken) == (400, "VALIDATION_ERROR")
