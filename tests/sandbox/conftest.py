"""Run a sandbox in the test's own process, with a clock that the test controls."""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from starlette.types import ASGIApp

from softpro_sandbox.app import create_app
from softpro_sandbox.clock import parse_ms
from softpro_sandbox.state import SandboxState, Setup, create_state

REDIRECT = "http://localhost:8080/callback"
START = parse_ms("2025-11-03T12:00:00Z") / 1000


class Clock:
    """Seconds since 1970 that advance only on request."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Client:
    """An HTTP client that calls an app without a network and without an event loop of the test."""

    def __init__(self, app: ASGIApp) -> None:
        self._runner = asyncio.Runner()
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://testserver", trust_env=False
        )
        self.headers = self._http.headers

    def request(self, method: str, url: str, **how: Any) -> httpx.Response:
        return self._runner.run(self._http.request(method, url, **how))

    def get(self, url: str, **how: Any) -> httpx.Response:
        return self.request("GET", url, **how)

    def post(self, url: str, **how: Any) -> httpx.Response:
        return self.request("POST", url, **how)

    def patch(self, url: str, **how: Any) -> httpx.Response:
        return self.request("PATCH", url, **how)

    def put(self, url: str, **how: Any) -> httpx.Response:
        return self.request("PUT", url, **how)

    def delete(self, url: str, **how: Any) -> httpx.Response:
        return self.request("DELETE", url, **how)

    def abandon(self, url: str, after: float) -> None:
        """Call and disconnect after `after` seconds. Raise TimeoutError unless the response came before."""
        self._runner.run(asyncio.wait_for(self._http.get(url), after))

    def let_run(self, seconds: float) -> None:
        """Run the app's background tasks for some seconds of real time."""
        self._runner.run(asyncio.sleep(seconds))

    def close(self) -> None:
        self._runner.run(self._http.aclose())
        self._runner.close()


@dataclass
class Sandbox:
    """A sandbox, its clock, and a client for it; `connect` gives the client a grant."""

    http: Client
    clock: Clock
    organization_ids: list[str]
    tokens: dict[str, Any] = field(default_factory=dict)

    def consent(self, decision: str = "allow", organization: int = 0, **asked: str) -> dict[str, str]:
        """Submit the consent page as a browser would, and return the parameters of the redirect to the client."""
        query = {"response_type": "code", "client_id": "sandbox-client", "redirect_uri": REDIRECT, "state": "s"} | asked
        page = self.http.get("/oauth/authorize", params=query)
        assert page.status_code == 200, page.text
        form = dict(re.findall(r'<input type="hidden" name="(.+?)" value="(.*?)">', page.text))
        form |= {"decision": decision, "organization": self.organization_ids[organization]}
        response = self.http.post("/oauth/authorize", data=form)
        assert response.status_code == 303, response.text
        return dict(parse_qsl(urlsplit(response.headers["location"]).query))

    def token(self, **form: str) -> Any:
        """Return the response of the token endpoint."""
        client = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
        return self.http.post("/oauth/token", data=client | form)

    def redeem(self, code: str, **form: str) -> Any:
        return self.token(**({"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT} | form))

    def refresh(self, token: str) -> Any:
        return self.token(grant_type="refresh_token", refresh_token=token)

    def connect(self, organization: int = 0, **asked: str) -> "Sandbox":
        response = self.redeem(self.consent(organization=organization, **asked)["code"])
        assert response.status_code == 200, response.text
        self.use(response.json())
        return self

    def use(self, tokens: dict[str, Any]) -> None:
        self.tokens = tokens
        self.http.headers["authorization"] = f"Bearer {tokens['access_token']}"

    def get(self, path: str, **params: Any) -> Any:
        return self.http.get(f"/api/v1{path}", params=params)

    def ids(self, path: str = "/transactions", **params: Any) -> list[str]:
        """Return the ids on one page of a list."""
        name = "orderId" if path == "/transactions" else "contactId"
        return [record[name] for record in self.get(path, **params).json()["data"]]

    def create(self, **fields: Any) -> dict[str, Any]:
        response = self.http.post("/api/v1/transactions", json={"orderType": "SALE"} | fields)
        assert response.status_code == 201, response.text
        record: dict[str, Any] = response.json()
        return record

    def patch(self, order_id: str, fields: dict[str, Any], etag: str | None = None) -> Any:
        headers = {} if etag is None else {"If-Match": etag}
        return self.http.patch(f"/api/v1/transactions/{order_id}", json=fields, headers=headers)

    def order(self, order_id: str = "ord-000001") -> dict[str, Any]:
        record: dict[str, Any] = self.get(f"/transactions/{order_id}").json()
        return record

    def switch(self, **switches: Any) -> None:
        response = self.http.patch("/sandbox/settings", json=switches)
        assert response.status_code == 200, response.text

    def stats(self) -> dict[str, Any]:
        counts: dict[str, Any] = self.http.get("/sandbox/stats").json()
        return counts


@pytest.fixture(scope="session")
def built() -> tuple[SandboxState, ASGIApp]:
    """Build the app once, since that is slow; `start` puts a new state into it."""
    state = create_state(Setup(transactions=0, contacts=0), Clock())
    return state, create_app(state)


@pytest.fixture
def start(built: tuple[SandboxState, ASGIApp]) -> Iterator[Callable[..., Sandbox]]:
    """Yield a function that starts a small sandbox, one per test.

    Its arguments are those of Setup. Unless given, the rate limit is too high to matter.
    """
    state, app = built
    clients: list[Client] = []

    def started(rate_limit: int = 100_000, **setup: Any) -> Sandbox:
        assert isinstance(state.clock, Clock)
        state.clock.now = START
        sizes: dict[str, Any] = {"transactions": 30, "contacts": 10}
        vars(state).update(vars(create_state(Setup(**(sizes | setup)), state.clock)))
        clients.append(Client(app))
        sandbox = Sandbox(clients[-1], state.clock, list(state.organizations))
        sandbox.switch(rateLimit=rate_limit)
        return sandbox

    yield started
    for client in clients:
        client.close()


@pytest.fixture
def sandbox(start: Callable[..., Sandbox]) -> Sandbox:
    """Start a connected sandbox with 30 transactions and 10 contacts."""
    return start().connect()
