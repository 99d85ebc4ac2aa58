"""The vendor's front door: Date on every answer; token, rate limit and faults before any call of the API."""

import asyncio
import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from softpro_sandbox.clock import http_date, to_ms
from softpro_sandbox.connection_faults import LostAnswer, Reset, drip
from softpro_sandbox.errors import ApiError, error_response
from softpro_sandbox.faults import Fault, plan
from softpro_sandbox.oauth.grants import Grant
from softpro_sandbox.rate_limit import Allowance, count, headers
from softpro_sandbox.state import World
from softpro_sandbox.stats import Arrival, kind_of

API_BASE = "/api/v1"
_LOG = logging.getLogger(__name__)
_PROXY_PAGE = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
_SPOILED = frozenset({"emptyBody", "truncatedBody", "lostWrite", "wrongJson"})
_OTHER_SHAPES = (b"[1,2,3]", b'"ok"', b'{"result":{"ok":true}}', b"null", b"42")


class Gate:
    """ASGI middleware for everything below the API's base; other paths pass untouched."""

    def __init__(self, app: ASGIApp, world: World, reset: Reset) -> None:
        self.app = app
        self.world = world
        self.reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let in with `scope["state"]["grant"]` set."""
        if scope["type"] != "http" or not scope["path"].startswith(f"{API_BASE}/"):
            await self.app(scope, receive, send)
            return
        if self.world.switches.transit_seconds:
            await asyncio.sleep(self.world.switches.transit_seconds * self.world.transit_draws.random())
        grant = self._grant(scope)
        send = self._counted(scope, grant, send)
        if grant is None:
            self.world.stats.unauthenticated += 1
            challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            error = ApiError(401, "The access token is missing, unknown, expired or revoked.", headers=challenge)
            await error_response(error, self.world.time)(scope, receive, send)
            return
        scope.setdefault("state", {})["grant"] = grant
        self.world.stats.by_organization[grant.organization_id] += 1
        allowance = count(grant.window, self.world.clock(), self.world.switches.rate_limit)
        await self._pass(scope, receive, _with_headers(send, headers(allowance)), allowance)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, allowance: Allowance) -> None:
        """Carry out a counted request, unless the limit or a fault is against it."""
        if allowance.retry_after is not None:
            self.world.stats.rate_limited += 1
            error = ApiError(429, f"More than {allowance.limit} requests in 60 s.")
            await error_response(error, self.world.time)(scope, receive, send)
            return
        fate = plan(self.world.fault_draws, self.world.switches, scope["method"])
        if fate.delay:
            self.world.stats.faults["slow"] += 1
            await asyncio.sleep(fate.delay)
        if fate.fault is None:
            await self.app(scope, receive, send)
            return
        self.world.stats.faults[fate.fault] += 1
        if fate.fault == "dripBody":
            await drip(self.app, self.world.switches.drip_seconds, scope, receive, send)
        elif fate.fault in _SPOILED:
            await self._spoil(fate.fault, scope, receive, send)
        else:
            await self._instead(fate.fault)(scope, receive, send)

    def _instead(self, fault: Fault) -> Response:
        """The answer of a request that is not carried out."""
        if fault == "resetConnection":
            return LostAnswer(self.reset)
        if fault == "proxyHtml":
            return HTMLResponse(_PROXY_PAGE, 502)
        if fault == "error429":
            error = ApiError(429, "The vendor is busy.", headers={"Retry-After": "1"})
        else:
            error = ApiError(int(fault.removeprefix("error")), "The vendor is unwell.")
        return error_response(error, self.world.time)

    async def _spoil(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry the request out, then keep the answer back, or part of it."""
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self.app(scope, receive, keep)
        if fault == "lostWrite":
            await self.reset(scope, receive)
            return
        if fault == "wrongJson":
            shape = _OTHER_SHAPES[(self.world.stats.faults[fault] - 1) % len(_OTHER_SHAPES)]
            await Response(shape, media_type="application/json")(scope, receive, send)
            return
        body = b"".join(message.get("body", b"") for message in messages[1:])
        body = b"" if fault == "emptyBody" else body[: len(body) // 2]
        # The length fits what is sent: HTTP is sound, the JSON is not, as after a proxy that gave up and buffered.
        MutableHeaders(raw=messages[0]["headers"])["content-length"] = str(len(body))
        await send(messages[0])
        await send({"type": "http.response.body", "body": body})

    def _grant(self, scope: Scope) -> Grant | None:
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        return self.world.grants.holder(token.strip(), self.world.clock()) if scheme.lower() == "bearer" else None

    def _counted(self, scope: Scope, grant: Grant | None, send: Send) -> Send:
        """Count a call as it arrives; `send` that notes its status."""
        kind = kind_of(scope["method"], scope["path"].removeprefix(API_BASE))
        arrival = Arrival(self.world.clock(), grant.organization_id if grant else None, kind)
        self.world.stats.arrivals.append(arrival)
        if grant is not None:
            self.world.stats.requests[kind] += 1

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                arrival.status = message["status"]
            await send(message)

        return noting


class Outermost:
    """ASGI middleware around everything: the vendor's `Date`, a count of statuses, 500 for the sandbox's own bugs."""

    def __init__(self, app: ASGIApp, world: World) -> None:
        self.app = app
        self.world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, adding to the answer's start."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["date"] = http_date(to_ms(self.world.time))
                self.world.stats.statuses[str(message["status"])] += 1
            await send(message)

        try:
            await self.app(scope, receive, stamped)
        except ConnectionResetError:
            raise
        except ClientDisconnect:
            return
        except Exception:  # noqa: BLE001 - a bug is answered in the envelope too, and logged with its traceback
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            error = ApiError(500, "The sandbox has a bug; its standard error tells which.")
            await error_response(error, self.world.time)(scope, receive, stamped)


def _with_headers(send: Send, added: dict[str, str]) -> Send:
    """`send` that adds headers to the answer's start, save those the answer has."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            held = MutableHeaders(scope=message)
            for name, value in added.items():
                held.setdefault(name, value)
        await send(message)

    return wrapped
