"""Calls to the SoftPro 360 API: lists and single records, with the specification's retry schedule."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote

import msgspec
import requests
import tenacity
from urllib3.exceptions import NewConnectionError

from softpro.entities import EntityType
from softpro.errors import AuthenticationError, NetworkError, ServerError, SoftProAPIError
from softpro.settings import VendorSettings
from softpro.timestamps import format_time
from softpro.vendor.answers import checked, decoded
from softpro.vendor.lists import split
from softpro.vendor.records import PATHS, Record, Unreadable, read

TIMEOUT_SECONDS = (5, 30)  # to connect, between two bytes
LONGEST_WAIT_SECONDS = 30

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """One answer of a list: its records in the vendor's order, and the vendor's clock when it answered."""

    records: list[Record | Unreadable]
    total: int
    has_more: bool
    answered_at: datetime


class Profile(msgspec.Struct, rename="camel"):
    """Whose grant this is, as the vendor names them."""

    user_id: str
    organization_id: str
    email: str


@dataclass
class Client:
    """One organization's connection. `token(refused)` gives an access token; `refused` is one that got a 401.

    `requests_made` counts every request that was sent, retries included. No wait between tries goes beyond `deadline`
    (of the monotonic clock): the error is raised instead.
    """

    base_url: str
    token: Callable[[str | None], str]
    max_retries: int
    sleep: Callable[[float], None] = time.sleep
    session: requests.Session = field(default_factory=requests.Session, repr=False)
    requests_made: int = 0
    deadline: float | None = None

    def list_page(self, entity_type: EntityType, *, updated_from: datetime | None, limit: int, offset: int) -> Page:
        """A page ordered by `updatedAt`, oldest first, from `updated_from` on (inclusive). Raises SoftProAPIError."""
        parameters: dict[str, str | int] = {
            "limit": limit,
            "offset": offset,
            "sortBy": "updatedAt",
            "sortOrder": "asc",
        }
        if updated_from is not None:
            parameters["updatedFrom"] = format_time(updated_from)
        path = PATHS[entity_type]
        return self._call(path, path, parameters, lambda answer, what: _page(answer, what, entity_type))

    def record(self, entity_type: EntityType, entity_id: str) -> Record | Unreadable:
        """One record. Raises RecordNotFound, SoftProAPIError."""
        path = PATHS[entity_type]
        return self._call(
            f"{path}/{{id}}",
            f"{path}/{quote(entity_id, safe='')}",
            {},
            lambda answer, what: read(checked(answer, what), entity_type),
        )

    def profile(self) -> Profile:
        """Who the grant belongs to; the call that tells whether a token is good. Raises SoftProAPIError."""

        def parse(answer: requests.Response, what: str) -> Profile:
            profile: Profile = decoded(checked(answer, what), Profile, what)
            return profile

        return self._call("/user/profile", "/user/profile", {}, parse)

    def _call(
        self,
        route: str,
        path: str,
        parameters: dict[str, str | int],
        parse: Callable[[requests.Response, str], T],
    ) -> T:
        """A GET with retries; a 401 makes one refresh and one more try. `route` is the path without ids, for logs."""
        token = self.token(None)
        try:
            return self._retrying()(lambda: parse(self._send(route, path, parameters, token), f"GET {route}"))
        except AuthenticationError:
            fresh = self.token(token)
            return self._retrying()(lambda: parse(self._send(route, path, parameters, fresh), f"GET {route}"))

    def _retrying(self) -> tenacity.Retrying:
        return tenacity.Retrying(
            stop=self._gives_up,
            wait=wait_before,
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, SoftProAPIError) and e.retryable),
            sleep=self.sleep,
            reraise=True,
        )

    def _gives_up(self, state: tenacity.RetryCallState) -> bool:
        too_late = self.deadline is not None and time.monotonic() + state.upcoming_sleep > self.deadline
        return too_late or state.attempt_number >= 1 + self.max_retries

    def _send(self, route: str, path: str, parameters: dict[str, str | int], token: str) -> requests.Response:
        began = time.monotonic()
        self.requests_made += 1
        try:
            answer = self.session.get(
                self.base_url + path,
                params=parameters,
                headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,  # a redirect would carry the token elsewhere
            )
        except requests.exceptions.ContentDecodingError as broken:
            raise ServerError(f"GET {route}: the answer can't be decoded ({type(broken).__name__})") from None
        except requests.RequestException as failed:
            message = f"GET {route}: SoftPro did not answer ({type(failed).__name__})"
            raise NetworkError(message, sent=was_sent(failed)) from None
        log.info(
            "vendor_call",
            extra={
                "method": "GET",
                "route": route,
                "status": answer.status_code,
                "ms": round((time.monotonic() - began) * 1000),
            },
        )
        return answer


def client_for(environment: str, settings: VendorSettings, token: Callable[[str | None], str]) -> Client:
    """The client for an integration's environment, SANDBOX or PRODUCTION."""
    base_url = settings.production_base_url if environment == "PRODUCTION" else settings.sandbox_base_url
    return Client(base_url, token, settings.max_retries)


def was_sent(failed: requests.RequestException) -> bool:
    """Whether the request may have arrived: not where no connection was made."""
    if isinstance(failed, requests.ConnectTimeout):
        return False
    reason = getattr(failed.args[0], "reason", None) if failed.args else None
    return not isinstance(reason, NewConnectionError)


def wait_before(state: tenacity.RetryCallState) -> float:
    """Seconds before the next attempt: 1, 2, 4, … at most 30, with up to a quarter of jitter; Retry-After above all."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, SoftProAPIError) else None
    if asked is not None:
        return asked
    usual = min(LONGEST_WAIT_SECONDS, 2.0 ** (state.attempt_number - 1))
    return usual + tenacity.wait_random(0, usual / 4)(state)


def _page(answer: requests.Response, what: str, entity_type: EntityType) -> Page:
    records, pagination = split(checked(answer, what), what)
    if pagination.has_more and not records:
        raise ServerError(f"{what}: the answer says that there is more, and sends nothing")
    try:
        answered_at = parsedate_to_datetime(answer.headers["Date"])
    except (KeyError, ValueError):
        raise ServerError(f"{what}: the answer carries no Date, which the cursor needs") from None
    return Page(
        records=[read(record, entity_type) for record in records],
        total=pagination.total,
        has_more=pagination.has_more,
        answered_at=answered_at,
    )
