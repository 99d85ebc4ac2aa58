"""Send deliveries at a steady rate over kept connections, in turn with requests to an empty route.

The rate does not depend on the response times.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Line:
    """A pool of kept connections to one server."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[Connection] = []

    async def ask(self, request: bytes) -> int:
        """Send a request, read its response and return the status; 0 without a response."""
        try:
            reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(length.split(b":")[1]))
        except (OSError, EOFError, ValueError):
            return 0
        self._idle.append((reader, writer))
        return int(head.split(b" ", 2)[1])


async def pace(line: Line, make: Callable[[], bytes], rate: float, seconds: float) -> list[tuple[float, int]]:
    """Send `rate` requests a second. Return the seconds from each due time to its response, and the status."""
    answers: list[tuple[float, int]] = []

    async def one(due: float, request: bytes) -> None:
        status = await line.ask(request)
        answers.append((time.perf_counter() - due, status))

    began, asked = time.perf_counter(), set()
    for number in range(int(rate * seconds)):
        due, request = began + number / rate, make()
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.add(asyncio.create_task(one(due, request)))
    await asyncio.gather(*asked)
    return answers


def deliveries(job: dict[str, Any]) -> Callable[[], bytes]:
    """Return a function that builds requests of new, signed events, which carry the job's records in turn."""
    numbers, records, secret = count(), job["records"], job["secret"].encode()

    def make() -> bytes:
        number = next(numbers)
        record = records[number % len(records)]
        event = {
            "id": f"evt_{job['run']}_{number}",
            "type": "transaction.updated",
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "organizationId": job["organization"],
            "entityType": "TRANSACTION",
            "entityId": record["orderId"],
            "data": record,
        }
        body = json.dumps(event).encode()
        signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
        return request("POST", job["receiver"], body, f"X-SoftPro-Signature: {signature}\r\n")

    return make


def request(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def work(job: dict[str, Any]) -> dict[str, list[tuple[float, int]]]:
    line = Line(job["host"], job["port"])
    empty = request("GET", job["empty"])
    made = {"empty": lambda: empty, "receiver": deliveries(job)}
    for make in made.values():
        await pace(line, make, job["rate"], job["warm_up"])
    answers: dict[str, list[tuple[float, int]]] = {name: [] for name in made}
    for _ in range(job["rounds"]):
        for name, make in made.items():
            answers[name] += await pace(line, make, job["rate"], job["seconds"] / job["rounds"])
    return answers


if __name__ == "__main__":
    import gc

    gc.disable()
    print(json.dumps(asyncio.run(work(json.load(sys.stdin)))))
