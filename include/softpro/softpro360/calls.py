"""How a call reaches the vendor: budget, circuit breaker, token, retries, and a log event for every attempt."""

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
from softpro.softpro360.transport import EXCHANGE_SECONDS, SILENCE_SECONDS, ApiResponse, exchange

LONGEST_WAIT_SECONDS = 30
NEVER = datetime.min.replace(tzinfo=UTC)
SLOW_CLOCK = 0.999
"""So that this machine's clock, which may be a little fast, never has a request sent later than it was."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """One call of the contract. `route` is its path with names for the ids, as logs show it.

    A `repeatable` one may be sent again although its first fate is unknown: a GET, a DELETE, a PATCH with `If-Match`.
    `body` makes what is sent, anew for every try.
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

    @property
    def path(self) -> str:
        """Raises UsageError for an id that is none: it would lead to another resource."""
        if wrong := [f"{name} {value!r}" for name, value in self.ids.items() if value in ("", ".", "..")]:
            raise UsageError(f"{self}: {', '.join(wrong)} can't be an id")
        return self.route.format_map({name: quote(value, safe="") for name, value in self.ids.items()})

    def sample(self, attempt: int) -> dict[str, Any]:
        """What its log keeps of it when it fails."""
        body = self.body() if self.headers.get("Content-Type") == "application/json" else None
        return redaction.request(self.method, self.route, self.ids, self.parameters, attempt, body)

    def __str__(self) -> str:
        return f"{self.method} {self.route}"


@dataclass
class ApiTransport:
    """One organization's way to the vendor. `token(refused)` gives an access token; `refused` is one that got a 401.

    `requests_made` counts every request that was sent, retries included; `asked_at` is when the last one was, by the
    database's clock, or a little before. No wait, for the budget or between two tries,
    goes beyond `deadline` (of the monotonic clock): the error is raised instead. `waiting` is told the seconds that the
    rate limit makes it wait.
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
        """What `parse` makes of the answer. A 401 makes one refresh and one more try.

        Raises SoftProAPIError, after the retries where it is worth one and the call may be repeated; TokenUnavailable,
        NotConnected, CircuitOpen.
        """
        admission = self.breaker.admit()
        attempts = 1 if admission.trial else 1 + self.max_retries
        renewed = lost = False

        def attempt(number: int) -> T:
            nonlocal renewed, lost
            token, answer = self.token(None), None
            try:
                answer = self._send(call, token, number)
                if answer.status_code == 401 and not renewed:
                    renewed = True
                    answer = self._send(call, self.token(token), number)
                return parse(answer, str(call))
            except SoftProAPIError as failed:
                failed.request, failed.answer = call.sample(number), redaction.answer(answer)
                failed.repeated = lost
                lost = lost or may_have_happened(failed)
                raise

        try:
            result = self._retry(call, attempts, attempt)
        except BudgetExhausted:
            self.breaker.spared(admission)
            raise
        except (ServerError, NetworkError) as failed:
            # A write that may have been done is given up after one try, which says little.
            if call.repeatable or admission.trial or not may_have_happened(failed):
                self.breaker.failed(admission, failed)
            raise
        except SoftProAPIError as refused:  # a refusal is an answer, and "too many" one to nobody's credit
            if admission.trial or not isinstance(refused, RateLimitError):
                self.breaker.succeeded(admission)
            raise
        except SoftProError:
            self.breaker.spared(admission)
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
        """One request, in a slot of the budget. Raises NetworkError, ServerError, BudgetExhausted."""

        def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {token}"
            return request

        url = self.base_url + call.path
        patience = None if self.deadline is None else self.deadline - time.monotonic()
        asked = time.monotonic()
        slot = self.budget.take(call.seconds + SILENCE_SECONDS, patience, self.waiting)
        began = time.monotonic()
        if not call.repeatable and self.deadline is not None and began > self.deadline:
            # Whoever waits for what comes of a write counts on it not being sent any later.
            self.budget.give_back(slot)
            raise NetworkError(f"{call} was not sent: the time for it was over", sent=False)
        self.requests_made += 1
        self.asked_at = slot.asked_at + timedelta(seconds=(began - slot.known_at) * SLOW_CLOCK)
        said: dict[str, Any] = {
            "method": call.method,
            "route": call.route,
            "attempt": attempt,
            "waited_ms": _ms(asked, began),
            "budget_left": slot.left,
        }
        try:
            answer = exchange(
                self.session,
                call.method,
                url,
                str(call),
                authorize=authorize,
                seconds=call.seconds,
                into=call.into,
                params=call.parameters,
                headers={"Accept": "application/json", **call.headers},
                data=call.body(),
            )
        except SoftProAPIError as failed:
            if isinstance(failed, NetworkError) and not failed.sent:
                self.budget.give_back(slot)
            _log(said, began, error=type(failed).__name__)
            raise
        _log(said, began, status=answer.status_code, request_id=request_id(answer))
        self.budget.settle(slot, answer.headers, retry_after(answer.headers))
        return answer


def may_have_happened(error: SoftProAPIError) -> bool:
    """Whether the request may have been carried out all the same: the answer was lost, or was none of the vendor's."""
    return isinstance(error, ServerError) or (isinstance(error, NetworkError) and error.sent)


def wait_before(state: tenacity.RetryCallState) -> float:
    """Seconds before the next attempt: 1, 2, 4, … at most 30, with up to a quarter of jitter; Retry-After above all."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, SoftProAPIError) else None
    if asked is not None:
        return asked
    usual = min(LONGEST_WAIT_SECONDS, 2.0 ** (state.attempt_number - 1))
    return usual + tenacity.wait_random(0, usual / 4)(state)


def _log(said: Mapping[str, Any], began: float, **outcome: Any) -> None:
    log.info("vendor_call", extra={**said, **outcome, "ms": _ms(began, time.monotonic())})


def _ms(began: float, ended: float) -> int:
    return round((ended - began) * 1000)
