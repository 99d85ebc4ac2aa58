"""Send a call to the vendor with rate limit, circuit breaker, token, retries, and a log event for each attempt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import requests
import tenacity

from softpro.errors import (
    BudgetExhausted,
    NetworkError,
    RateLimitError,
    ServerError,
    SoftProAPIError,
    SoftProError,
    UsageError,
)
from softpro.softpro360 import redaction
from softpro.softpro360.breaker import Breaker
from softpro.softpro360.budget import Budget
from softpro.softpro360.responses import request_id, retry_after
from softpro.softpro360.transport import EXCHANGE_SECONDS, MAX_RESPONSE_BYTES, SILENCE_SECONDS, ApiResponse, exchange

MAX_BACKOFF_SECONDS = 30
NEVER = datetime.min.replace(tzinfo=UTC)
CLOCK_SAFETY_FACTOR = 0.999
"""Keeps the computed send time from being too late if this machine's clock runs slightly fast."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """A call of the contract.

    Attributes:
        route: the path with placeholders for the ids, as logs show it.
        body: creates the body for each attempt.
        repeatable: the call may be repeated although an earlier attempt may have been carried out: a GET, a DELETE, a
            PATCH with `If-Match`.
        seconds: the limit for each exchange.
        into: a file for the body of the response.
        max_bytes: the most bytes that the file takes.
    """

    method: str
    route: str
    ids: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], Any] = lambda: None
    repeatable: bool = True
    seconds: float = EXCHANGE_SECONDS
    into: BinaryIO | None = None
    max_bytes: int = MAX_RESPONSE_BYTES

    @property
    def path(self) -> str:
        """Return the path with the ids.

        Raises:
            UsageError: an id is empty or a dot segment, which would lead to another resource.
        """
        if wrong := [f"{name} {value!r}" for name, value in self.ids.items() if value in ("", ".", "..")]:
            raise UsageError(f"{self}: {', '.join(wrong)} can't be an id")
        return self.route.format_map({name: quote(value, safe="") for name, value in self.ids.items()})

    def sample(self, attempt: int) -> dict[str, Any]:
        """Return the redacted request, for the sync log of a failed call."""
        body = self.body() if self.headers.get("Content-Type") == "application/json" else None
        return redaction.redact_request(self.method, self.route, self.ids, self.parameters, attempt, body)

    def __str__(self) -> str:
        return f"{self.method} {self.route}"


@dataclass
class ApiTransport:
    """An organization's connection to the vendor.

    Attributes:
        token: returns an access token; its argument is a token that got a 401, or None.
        requests_made: the number of requests sent, including retries.
        asked_at: the database's time when the last request was sent, or slightly earlier.
        deadline: no wait, for the rate limit or before a retry, ends later; the error is raised instead (monotonic
            clock).
        waiting: called with the seconds of each wait for the rate limit.
    """

    base_url: str
    token: Callable[[str | None], str]
    budget: Budget
    breaker: Breaker
    max_retries: int
    sleep: Callable[[float], None] = time.sleep
    session: requests.Session = field(default_factory=requests.Session, repr=False)
    requests_made: int = 0
    asked_at: datetime = NEVER
    deadline: float | None = None
    waiting: Callable[[float], None] = lambda seconds: None

    def call(self, call: Call, parse: Callable[[ApiResponse, str], T]) -> T:
        """Send the call, and return the parsed response. After a 401, refresh the token once and send the call again.

        Raises:
            SoftProAPIError: the call failed, after all retries if it is retryable and may be repeated.
            TokenUnavailable: the OAuth server issued no access token.
            NotConnected: the integration has no usable grant.
            CircuitOpen: too many calls in a row failed.
        """
        admission = self.breaker.admit()
        attempts = 1 if admission.trial else 1 + self.max_retries
        renewed = lost = False

        def attempt(number: int) -> T:
            nonlocal renewed, lost
            token, response = self.token(None), None
            try:
                response = self._send(call, token, number)
                if response.status_code == 401 and not renewed:
                    renewed = True
                    response = self._send(call, self.token(token), number)
                return parse(response, str(call))
            except SoftProAPIError as failed:
                failed.request, failed.response = call.sample(number), redaction.redact_response(response)
                failed.repeated = lost
                lost = lost or may_have_happened(failed)
                raise

        try:
            result = self._retry(call, attempts, attempt)
        except BudgetExhausted:
            self.breaker.release(admission)
            raise
        except (ServerError, NetworkError) as failed:
            # A write that may have been carried out gets only one attempt, which proves little.
            if call.repeatable or admission.trial or not may_have_happened(failed):
                self.breaker.failed(admission, failed)
            raise
        except SoftProAPIError as refused:  # a refusal proves that the vendor is up, but a 429 may not
            if admission.trial or not isinstance(refused, RateLimitError):
                self.breaker.succeeded(admission)
            raise
        except SoftProError:
            self.breaker.release(admission)
            raise
        self.breaker.succeeded(admission)
        return result

    def _retry(self, call: Call, attempts: int, attempt: Callable[[int], T]) -> T:
        def worth_another(error: BaseException) -> bool:
            return (
                isinstance(error, SoftProAPIError)
                and error.retryable
                and (call.repeatable or not may_have_happened(error))
            )

        def gives_up(state: tenacity.RetryCallState) -> bool:
            too_late = self.deadline is not None and time.monotonic() + state.upcoming_sleep > self.deadline
            return too_late or state.attempt_number >= attempts

        retrying = tenacity.Retrying(
            stop=gives_up,
            wait=wait_before,
            retry=tenacity.retry_if_exception(worth_another),
            sleep=self.sleep,
            reraise=True,
        )
        return retrying(lambda: attempt(retrying.statistics["attempt_number"]))

    def _send(self, call: Call, token: str, attempt: int) -> ApiResponse:
        """Send one request in a slot of the budget. Raises NetworkError, ServerError, BudgetExhausted."""

        def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {token}"
            return request

        url = self.base_url + call.path
        patience = None if self.deadline is None else self.deadline - time.monotonic()
        asked = time.monotonic()
        slot = self.budget.take(call.seconds + SILENCE_SECONDS, patience, self.waiting)
        began = time.monotonic()
        if not call.repeatable and self.deadline is not None and began > self.deadline:
            # `creates` relies on a write never being sent after the deadline.
            self.budget.give_back(slot)
            raise NetworkError(f"{call} was not sent: its deadline had passed", sent=False)
        self.requests_made += 1
        self.asked_at = slot.asked_at + timedelta(seconds=(began - slot.known_at) * CLOCK_SAFETY_FACTOR)
        event: dict[str, Any] = {
            "method": call.method,
            "route": call.route,
            "attempt": attempt,
            "waited_ms": _ms(asked, began),
            "budget_left": slot.left,
        }
        try:
            response = exchange(
                self.session,
                call.method,
                url,
                str(call),
                authorize=authorize,
                seconds=call.seconds,
                into=call.into,
                max_bytes=call.max_bytes,
                params=call.parameters,
                headers={"Accept": "application/json", **call.headers},
                data=call.body(),
            )
        except SoftProAPIError as failed:
            if isinstance(failed, NetworkError) and not failed.sent:
                self.budget.give_back(slot)
            _log(event, began, error=type(failed).__name__)
            raise
        _log(event, began, status=response.status_code, request_id=request_id(response))
        self.budget.settle(slot, response.headers, retry_after(response.headers))
        return response


def may_have_happened(error: SoftProAPIError) -> bool:
    """Return whether the request may have been carried out: the response was lost or is not the vendor's."""
    return isinstance(error, ServerError) or (isinstance(error, NetworkError) and error.sent)


def wait_before(state: tenacity.RetryCallState) -> float:
    """Return the seconds before the next attempt: Retry-After if given, otherwise 1, 2, 4, … up to 30.

    The usual wait has up to a quarter of random jitter on top.
    """
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, SoftProAPIError) else None
    if asked is not None:
        return asked
    usual = min(MAX_BACKOFF_SECONDS, 2.0 ** (state.attempt_number - 1))
    return usual + tenacity.wait_random(0, usual / 4)(state)


def _log(event: Mapping[str, Any], began: float, **outcome: Any) -> None:
    log.info("vendor_call", extra={**event, **outcome, "ms": _ms(began, time.monotonic())})


def _ms(began: float, ended: float) -> int:
    return round((ended - began) * 1000)
