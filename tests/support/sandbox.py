"""Start the sandbox as a process and control it over HTTP."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import msgspec
import requests

from softpro_demo import consent

from .forked_process import forked

CLIENT_ID, CLIENT_SECRET = "sandbox-client", "a secret that must never be seen 4f1c"

Json = dict[str, Any]

_exact = msgspec.json.Decoder(float_hook=Decimal)


class Sandbox:
    """A running sandbox: its addresses, its switches and its test controls.

    Attributes:
        startup_report: The JSON that the process printed when it started.
        organizations: The vendor's organization ids.
    """

    def __init__(self, startup_report: Json) -> None:
        self.url: str = startup_report["url"]
        self.startup_report = startup_report
        self.organizations: list[str] = startup_report["organizationIds"]
        self._unused_organizations: Iterator[str] = iter(self.organizations)
        self._http = requests.Session()

    def unused_organization(self) -> str:
        """Return an organization that no other test has used."""
        return next(self._unused_organizations)

    def consent(self, authorization_url: str, organization: str, decision: str = "allow") -> str:
        """Choose the organization on the consent page and return the address the browser is redirected to."""
        return consent.give(authorization_url, decision, organization=organization)

    def switch(self, **switches: Any) -> None:
        self._call("PATCH", "/settings", json=switches)

    def change(self, organization: str, entity: str = "TRANSACTION", count: int = 1, **how: Any) -> list[str]:
        """Change random records now and return their ids."""
        order = {"organizationId": organization, "entityType": entity, "count": count, **how}
        ids: list[str] = self._call("POST", "/changes", json=order).json()["ids"]
        return ids

    def put(self, organization: str, body: bytes | Json, entity: str = "TRANSACTION") -> str:
        """Store a record to be served byte for byte. Return its own id, or an internal one if it has none."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        parameters = {"organizationId": organization, "entityType": entity}
        record_id: str = self._call("POST", "/records", data=sent, params=parameters).json()["recordId"]
        return record_id

    def delete(self, organization: str, record: str, entity: str = "TRANSACTION") -> None:
        self._call("DELETE", f"/records/{record}", params={"organizationId": organization, "entityType": entity})

    def export(self, organization: str, entity: str = "TRANSACTION") -> list[bytes]:
        """Return every record's true state as bytes."""
        parameters = {"organizationId": organization, "entityType": entity}
        return self._call("GET", "/export", params=parameters).content.splitlines()

    def records(self, organization: str, entity: str = "TRANSACTION") -> dict[str, Json]:
        """Return every record's true state by id, with exact fractions."""
        field = {"TRANSACTION": "orderId", "CONTACT": "contactId"}[entity]
        decoded = map(_exact.decode, self.export(organization, entity))
        return {record[field]: record for record in decoded}

    def send_webhooks(self, organization: str, url: str, secret: str) -> None:
        """Send the organization's events to this address from now on."""
        self._call("PUT", "/webhooks", json={"organizationId": organization, "url": url, "secret": secret})

    def webhooks_waiting(self, organization: str) -> int:
        """Return the number of deliveries that are on their way or due later."""
        receivers = self._call("GET", "/webhooks").json()
        waiting: int = next(each["waiting"] for each in receivers if each["organizationId"] == organization)
        return waiting

    def stats(self) -> Json:
        stats: Json = self._call("GET", "/stats").json()
        return stats

    def calls(self, since: float) -> list[Json]:
        """Return every call counted since then (seconds since 1970): `at`, `organizationId`, `call`, `status`."""
        calls: list[Json] = self._call("GET", "/calls", params={"since": since}).json()
        return calls

    def requests_of(self, organization: str) -> int:
        """Return how many calls the organization's grants have made."""
        made: int = self.stats()["byOrganization"].get(organization, 0)
        return made

    def expire(self, organization: str, **which: bool) -> None:
        """Expire the access tokens now (`refreshTokens=True`: refresh tokens too)."""
        self._call("POST", "/grants/expire", json={"organizationId": organization, **which})

    def revoke(self, organization: str) -> None:
        """Withdraw the consent at the vendor."""
        self._call("POST", "/grants/revoke", json={"organizationId": organization})

    def environment(self) -> dict[str, str]:
        """Return the settings of a product that uses this sandbox."""
        return {
            "SOFTPRO_SANDBOX_BASE_URL": self.startup_report["apiBaseUrl"],
            "SOFTPRO_OAUTH_AUTHORIZE_URL": self.startup_report["authorizeUrl"],
            "SOFTPRO_OAUTH_TOKEN_URL": self.startup_report["tokenUrl"],
            "SOFTPRO_OAUTH_REVOKE_URL": self.startup_report["revokeUrl"],
            "SOFTPRO_CLIENT_ID": CLIENT_ID,
            "SOFTPRO_CLIENT_SECRET": CLIENT_SECRET,
        }

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, **how: Any) -> requests.Response:
        answer = self._http.request(method, f"{self.url}/sandbox{path}", timeout=30, **how)
        assert answer.ok, answer.text
        return answer


@contextmanager
def running_sandbox(
    *, organizations: int, transactions: int, contacts: int, redirect_uri: object = None, **switches: object
) -> Iterator[Sandbox]:
    """Yield a sandbox with these sizes per organization and these switches. Its rate limit does not bind.

    Without a registered `redirect_uri`, it accepts any on a loopback address.
    """
    sizes = {"organizations": organizations, "transactions": transactions, "contacts": contacts}
    options = [f"--{name}={size}" for name, size in sizes.items()]
    options += [f"--set={name}={value}" for name, value in {"rateLimit": 1_000_000, **switches}.items()]
    options += [f"--redirect-uri={redirect_uri}"] if redirect_uri else []
    arguments = ["--port=0", f"--client-secret={CLIENT_SECRET}", *options]
    with forked("softpro_sandbox", *arguments, environment=os.environ) as (process, out, err):
        while not (out.exists() and out.read_text().endswith("\n")):
            assert process.poll() is None, err.read_text()
            time.sleep(0.01)
        sandbox = Sandbox(json.loads(out.read_text()))
        yield sandbox
        sandbox.close()
