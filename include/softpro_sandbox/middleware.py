"""Handle requests as the vendor's edge does: `Date` on every response; token, rate limit and faults for the API."""

import asyncio
import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from softpro_sandbox.clock import http_date, now_ms
from softpro_sandbox.connection_faults import Reset, ResetResponse, drip
from softpro_sandbox.errors import ApiError, error_response
from softpro_sandbox.faults import Fault, draw_fault
from softpro_sandbox.oauth.grants import Grant
from softpro_sandbox.rate_limit import Allowance, count_request, rate_limit_headers
from softpro_sandbox.state import SandboxState
from softpro_sandbox.stats import RecordedCall, call_name

API_BASE = "/api/v1"
_LOG = logging.getLogger(__name__)
_PROXY_PAGE = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
_SPOILED_RESPONSES = frozenset({"emptyBody", "truncatedBody", "lostWrite", "wrongJson"})
_WRONG_SHAPES = (b"[1,2,3]", b'"ok"', b'{"result":{"ok":true}}', b"null", b"42")


class ApiMiddleware:
    """ASGI middleware for all paths below the API's base; other paths pass unchanged."""

    def __init__(self, app: ASGIApp, state: SandboxState, reset: Reset) -> None:
        self.app = app
        self.state = state
        self.reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject the request, or pass it on with `scope["state"]["grant"]` set."""
        if scope["type"] != "http" or not scope["path"].startswith(f"{API_BASE}/"):
            await self.app(scope, receive, send)
            return
        if self.state.switches.transit_seconds:
            await asyncio.sleep(self.state.switches.transit_seconds * self.state.transit_draws.random())
        grant = self._grant(scope)
        send = self._record_call(scope, grant, send)
        if grant is None:
            self.state.stats.unauthenticated += 1
            challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            error = ApiError(401, "The access token is missing, unknown, expired or revoked.", headers=challenge)
            await error_response(error, self.state.time)(scope, receive, send)
            return
        scope.setdefault("state", {})["grant"] = grant
        self.state.stats.by_organization[grant.organization_id] += 1
        allowance = count_request(grant.window, self.state.clock(), self.state.switches.rate_limit)
        await self._handle_counted(scope, receive, _with_headers(send, rate_limit_headers(allowance)), allowance)

    async def _handle_counted(self, scope: Scope, receive: Receive, send: Send, allowance: Allowance) -> None:
        """Handle a counted request, unless the rate limit or a fault prevents it."""
        if allowance.retry_after is not None:
            self.state.stats.rate_limited += 1
            error = ApiError(429, f"More than {allowance.limit} requests in 60 s.")
            await error_response(error, self.state.time)(scope, receive, send)
            return
        fault_plan = draw_fault(self.state.fault_draws, self.state.switches, scope["method"])
        if fault_plan.delay:
            self.state.stats.faults["slow"] += 1
            await asyncio.sleep(fault_plan.delay)
        if fault_plan.fault is None:
            await self.app(scope, receive, send)
            return
        self.state.stats.faults[fault_plan.fault] += 1
        if fault_plan.fault == "dripBody":
            await drip(self.app, self.state.switches.drip_seconds, scope, receive, send)
        elif fault_plan.fault in _SPOILED_RESPONSES:
            await self._spoil_response(fault_plan.fault, scope, receive, send)
        else:
            await self._fault_response(fault_plan.fault)(scope, receive, send)

    def _fault_response(self, fault: Fault) -> Response:
        """Build the response to a request that is not carried out."""
        if fault == "resetConnection":
            return ResetResponse(self.reset)
        if fault == "proxyHtml":
            return HTMLResponse(_PROXY_PAGE, 502)
        if fault == "error429":
            error = ApiError(429, "The vendor is busy. Retry after 1 s.", headers={"Retry-After": "1"})
        else:
            error = ApiError(int(fault.removeprefix("error")), "The vendor has an internal error.")
        return error_response(error, self.state.time)

    async def _spoil_response(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out the request, then withhold or damage the response."""
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await self.app(scope, receive, collect)
        if fault == "lostWrite":
            await self.reset(scope, receive)
            return
        if fault == "wrongJson":
            shape = _WRONG_SHAPES[(self.state.stats.faults[fault] - 1) % len(_WRONG_SHAPES)]
            await Response(shape, media_type="application/json")(scope, receive, send)
            return
        body = b"".join(message.get("body", b"") for message in messages[1:])
        body = b"" if fault == "emptyBody" else body[: len(body) // 2]
        # The length matches the body: valid HTTP with invalid JSON, as from a buffering proxy that gave up.
        MutableHeaders(raw=messages[0]["headers"])["content-length"] = str(len(body))
        await send(messages[0])
        await send({"type": "http.response.body", "body": body})

    def _grant(self, scope: Scope) -> Grant | None:
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        return self.state.grants.find_grant(token.strip(), self.state.clock()) if scheme.lower() == "bearer" else None

    def _record_call(self, scope: Scope, grant: Grant | None, send: Send) -> Send:
        """Record a call on arrival; return a `send` that records its status."""
        name = call_name(scope["method"], scope["path"].removeprefix(API_BASE))
        call = RecordedCall(self.state.clock(), grant.organization_id if grant else None, name)
        self.state.stats.calls.append(call)
        if grant is not None:
            self.state.stats.requests[name] += 1

        async def record_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
            await send(message)

        return record_status


class OutermostMiddleware:
    """ASGI middleware around everything: the vendor's `Date`, status counts, and 500 for bugs of the sandbox."""

    def __init__(self, app: ASGIApp, state: SandboxState) -> None:
        self.app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add to the start of the response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_date(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["date"] = http_date(now_ms(self.state.time))
                self.state.stats.statuses[str(message["status"])] += 1
            await send(message)

        try:
            await self.app(scope, receive, send_with_date)
        except ConnectionResetError:
            raise
        except ClientDisconnect:
            return
        except Exception:  # noqa: BLE001 - report a bug in the envelope too, and log its traceback
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            error = ApiError(500, "The sandbox has a bug. Its standard error has the traceback.")
            await error_response(error, self.state.time)(scope, receive, send_with_date)


def _with_headers(send: Send, added: dict[str, str]) -> Send:
    """Return a `send` that adds headers to a response, except those the response sets."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            existing = MutableHeaders(scope=message)
            for name, value in added.items():
                existing.setdefault(name, value)
        await send(message)

    return send_with_headers
