"""Attack an API server as one user, one viewer and strangers would, each bounded in number, for some seconds.

Reads a job from standard input, and prints the number of responses of each attack by status, as JSON. It runs at the
lowest priority, because the machines of attackers are not the server's.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import requests

PREVIEWS, PATTERNS, REFRESHES, BODIES, STRANGERS, DRIBBLERS = 6, 2, 4, 4, 60, 100
PAUSE_SECONDS, DRIBBLE_SECONDS, TIMEOUT_SECONDS = 1.0, 2.0, 40.0
BODY_MIB = 8
RULE = '$length($pad("",100000000))'
BACK_REFERENCES = r"^(.*)(.*)(.*)(.*)\1\2\3\4$"

Attack = Callable[[], int]


def attacks(job: dict[str, Any]) -> Iterator[tuple[str, Attack]]:
    """Yield each attacker's request, by the name of the attack."""
    url, integration_id = job["url"], job["integration_id"]
    user, viewer = _session(job["user"]), _session(job["viewer"])
    contact = {"entityType": "CONTACT", "softproField": "notes", "direction": "SOFTPRO_TO_ROI"}
    hostile = [contact | {"roiSystemsField": f"custom.r{n}", "transformationRule": f"{RULE} + {n}"} for n in range(2)]
    pattern = [contact | {"roiSystemsField": "notes", "validationRules": {"pattern": BACK_REFERENCES}}]
    of_integration = {"integrationId": integration_id}
    preview = partial(_post, user, f"{url}/mappings/preview")
    for mappings, attackers in ((hostile, PREVIEWS), (pattern, PATTERNS)):
        body = {**of_integration, "entityType": "CONTACT", "mappings": mappings}
        for _ in range(attackers):
            yield "preview" if mappings is hostile else "pattern", partial(preview, json=body)
    for _ in range(REFRESHES):
        address = f"{url}/mappings/coverage"
        yield "coverage by GET", partial(_status, viewer, "GET", address, params={**of_integration, "refresh": "true"})
    for _ in range(BODIES):
        yield "large body", lambda: _status(viewer, "PUT", f"{url}/mappings", data=_large_body())
    for _ in range(STRANGERS):
        yield "forged state", partial(_status, requests.Session(), "GET", f"{url}/callback", params={"state": "forged"})


def dribble(job: dict[str, Any], deadline: float) -> int:
    """Hold many requests open whose bodies arrive byte by byte, and return the number of connections."""
    address, total = urlsplit(job["url"]), 0
    opened: list[socket.socket] = []
    head = f"POST {address.path}/webhooks/{job['integration_id']} HTTP/1.1\r\nHost: {address.netloc}\r\n"
    while time.monotonic() < deadline:
        while len(opened) < DRIBBLERS:
            opened.append(socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_SECONDS))
            opened[-1].sendall(f"{head}Content-Length: 100000\r\n\r\n".encode())
            total += 1
        for each in list(opened):
            try:
                each.sendall(b" ")
            except OSError:  # the server ended it
                each.close()
                opened.remove(each)
        time.sleep(DRIBBLE_SECONDS)
    for each in opened:
        each.close()
    return total


def main() -> None:
    """Attack until the job's seconds are over."""
    os.nice(19)
    job = json.load(sys.stdin)
    deadline, counts = time.monotonic() + job["seconds"], Counter[tuple[str, int]]()

    def repeat(name: str, attack: Attack) -> None:
        while time.monotonic() < deadline:
            counts[name, attack()] += 1
            time.sleep(PAUSE_SECONDS)

    attackers = [Thread(target=repeat, args=each, daemon=True) for each in attacks(job)]
    for each in attackers:
        each.start()
    connections = dribble(job, deadline)
    for each in attackers:
        each.join()
    found: dict[str, dict[int, int]] = {"dribbled body": {0: connections}}
    for (name, status), count in sorted(counts.items()):
        found.setdefault(name, {})[status] = count
    print(json.dumps(found))


def _large_body() -> Iterator[bytes]:
    yield from (b" " * 2**20 for _ in range(BODY_MIB))


def _session(token: str) -> requests.Session:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    return session


def _post(session: requests.Session, url: str, **options: Any) -> int:
    return _status(session, "POST", url, **options)


def _status(session: requests.Session, method: str, url: str, **options: Any) -> int:
    """Send a request and return the status of the response; 0 without one."""
    try:
        return session.request(method, url, timeout=TIMEOUT_SECONDS, allow_redirects=False, **options).status_code
    except requests.RequestException:
        return 0


if __name__ == "__main__":
    main()
