"""Turn HTTP responses into usable bytes or an error that says what to do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import tenacity
from requests.structures import CaseInsensitiveDict

from softpro.errors import (
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    NetworkError,
    RateLimitError,
    RecordNotFound,
    ServerError,
    SoftProAPIError,
    ValidationError,
)
from softpro.softpro360.calls import wait_before
from softpro.softpro360.list_parser import split
from softpro.softpro360.models import Profile
from softpro.softpro360.responses import decode, json_body, request_id, require_success
from softpro.softpro360.transport import ApiResponse

JSON = {"Content-Type": "application/json"}
PAGE = b'{"data": [%s], "pagination": {"total": 3, "limit": 50, "offset": 0, "hasMore": true}}'


def answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> ApiResponse:
    return ApiResponse(status, "", CaseInsensitiveDict(JSON if headers is None else headers), body)


def envelope(code: str, message: str = "Because.", details: Any = None) -> bytes:
    said = {"code": code, "message": message, "details": details}
    return msgspec.json.encode({"success": False, "error": said, "meta": {"requestId": "r"}})


def test_a_good_answer_is_its_bytes() -> None:
    assert json_body(answer(200, b'{"a": 1.10}'), "GET /x") == b'{"a": 1.10}'


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json; charset=utf-8",
        "Application/JSON",
        "text/json",
        "application/problem+json",
        "application/vnd.softpro.v1+JSON;charset=UTF-8",
    ],
)
def test_every_media_type_of_json_is_json(media_type: str) -> None:
    found = answer(200, b'\xef\xbb\xbf{"a": 1}', {"Content-Type": media_type})
    assert json_body(found, "GET /x") == b'{"a": 1}'


@pytest.mark.parametrize("media_type", ["application/jsonp", "text/html", "application/json5", "json", ""])
def test_any_other_media_type_is_none(media_type: str) -> None:
    with pytest.raises(ServerError, match="is not JSON"):
        json_body(answer(200, b"{}", {"Content-Type": media_type}), "GET /x")


@pytest.mark.parametrize(
    ("status", "code", "kind", "retryable"),
    [
        (400, "VALIDATION_ERROR", ValidationError, False),
        (401, "AUTHENTICATION_ERROR", AuthenticationError, False),
        (403, "FORBIDDEN", ForbiddenError, False),
        (404, "NOT_FOUND", RecordNotFound, False),
        (409, "CONFLICT_ERROR", ConflictError, False),
        (302, "MOVED", ServerError, True),
        (418, "TEAPOT", ValidationError, False),
        (429, "RATE_LIMIT_ERROR", RateLimitError, True),
        (500, "SERVER_ERROR", ServerError, True),
        (503, "SERVER_ERROR", ServerError, True),
    ],
)
def test_each_status_is_an_error_of_its_own(
    status: int, code: str, kind: type[SoftProAPIError], retryable: bool
) -> None:
    with pytest.raises(kind) as refused:
        json_body(answer(status, envelope(code, "Because.", {"current": {"orderId": "a"}})), "GET /x")
    error = refused.value
    assert type(error) is kind
    assert (error.status_code, error.error_code, error.retryable) == (status, code, retryable)
    assert error.details == {"current": {"orderId": "a"}}
    assert str(error) == f"GET /x: SoftPro responded {status} {code}, Because."


@pytest.mark.parametrize("status", [200, 502])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<html>502 Bad Gateway</html>", {"Content-Type": "text/html"}),
        (b"", JSON),
        (b"", {}),
    ],
)
def test_a_proxys_page_or_nothing_is_a_server_error(status: int, body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(ServerError, match=r"^GET /x: ") as refused:
        json_body(answer(status, body, headers), "GET /x")
    assert refused.value.retryable


def test_a_success_without_a_needed_body_may_be_empty_but_not_a_proxys_page() -> None:
    for nothing in (answer(204, b"", {}), answer(200, b""), answer(200, b"{}")):
        require_success(nothing, "DELETE /x")
    with pytest.raises(ServerError, match=r"^DELETE /x: the response is not JSON"):
        require_success(answer(200, b"<html>Log in</html>", {"Content-Type": "text/html"}), "DELETE /x")
    with pytest.raises(RecordNotFound):
        require_success(answer(404, envelope("NOT_FOUND")), "DELETE /x")


def test_the_vendors_error_is_kept_as_one_short_line() -> None:
    odd = answer(500, envelope("BAD\x00" + "C" * 200, "a\x00b\x1b\x7f\x85\r\n\u202ec" + "m" * 600))
    with pytest.raises(ServerError) as refused:
        json_body(odd, "GET /x")
    error = refused.value
    assert error.error_code == "BAD" + "C" * 97
    assert str(error) == f"GET /x: SoftPro responded 500 {error.error_code}, ab c" + "m" * 496
    named = answer(500, b"", {"X-Request-Id": "r\x00\n" + "1" * 200})
    assert request_id(named) == "r " + "1" * 98


@pytest.mark.parametrize(
    "body",
    [
        b'{"success": fal',
        b"[]",
        b'{"error": "text"}',
        b'{"error": {"code": 7}}',
        b"\xff",
        b'{"error": {"details": ' + b"[" * 9000 + b"]" * 9000 + b"}}",
    ],
)
def test_an_error_envelope_that_is_none_still_gives_the_statuss_error(body: bytes) -> None:
    with pytest.raises(RecordNotFound):
        json_body(answer(404, body), "GET /x")


@pytest.mark.parametrize(
    "body",
    [
        b'{"userId": "u", "organiz',
        b"",
        b"[]",
        b'{"userId": 7, "organizationId": "o", "email": "e"}',
        b"{}",
        b"\xff\xff",
    ],
)
def test_a_body_cut_short_or_of_other_types_is_a_server_error(body: bytes) -> None:
    with pytest.raises(ServerError, match="truncated or violates the contract"):
        decode(body, Profile, "GET /user/profile")


def test_a_list_is_taken_apart_byte_for_byte() -> None:
    records = [b'{ "a" : 0.10 }', b'{"b":"]}\\""}', b"{}"]
    cut, pagination = split(PAGE % b" , ".join(records), "GET /x")
    assert cut == records
    assert (pagination.total, pagination.has_more) == (3, True)


@pytest.mark.parametrize(
    "odd", [rb'{"n": "\ud800"}', b'{"n": NaN}', b'{"n": "\x01"}', b'{"n": ' + b"[" * 9000 + b"]" * 9000 + b"}"]
)
def test_one_odd_record_does_not_spoil_the_list(odd: bytes) -> None:
    records = [b'{ "a": "}]\\"" }', odd, b'{"b": [1, {"c": "\\ud83d\\ude00"}]}']
    cut, pagination = split(PAGE % b",\n ".join(records), "GET /x")
    assert cut == records
    assert (pagination.total, pagination.has_more) == (3, True)


@pytest.mark.parametrize("length", range(0, len(PAGE % rb'{"n": "\ud800"}')))
def test_a_list_cut_short_anywhere_is_never_taken_for_a_whole_one(length: int) -> None:
    with pytest.raises(ServerError):
        split((PAGE % rb'{"n": "\ud800"}')[:length], "GET /x")


@pytest.mark.parametrize(
    "body",
    [b'{"data": [{}]}', b'{"data": {}, "pagination": {"total": 1, "hasMore": false}}', b'{"data": null}', b"[1]"],
)
def test_a_list_without_its_parts_is_a_server_error(body: bytes) -> None:
    with pytest.raises(ServerError):
        split(body, "GET /x")


def failed_attempt(number: int, error: Exception) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = number
    state.set_exception((type(error), error, None))
    return state


@pytest.mark.parametrize(("attempt", "least"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (20, 30)])
def test_tries_are_1_2_4_seconds_apart_up_to_30_with_a_little_jitter(attempt: int, least: float) -> None:
    waits = [wait_before(failed_attempt(attempt, NetworkError("reset"))) for _ in range(200)]
    assert least <= min(waits) <= max(waits) <= least * 1.25
    assert len(set(waits)) > 1


@pytest.mark.parametrize("attempt", [1, 9])
@pytest.mark.parametrize("seconds", [0.0, 1.0, 45.0, 600.0])
def test_retry_after_is_above_all(attempt: int, seconds: float) -> None:
    assert wait_before(failed_attempt(attempt, RateLimitError("slower", retry_after=seconds))) == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("86401", 86_400.0),
        ("999999", 86_400.0),
        *((odd, None) for odd in ("9999999999999", "9" * 400, "soon", "-1", "1.5", "٣", "²", "")),
    ],
)
def test_retry_after_is_read_from_the_answer(header: str, seconds: float | None) -> None:
    with pytest.raises(RateLimitError) as refused:
        json_body(answer(429, envelope("RATE_LIMIT_ERROR"), JSON | {"Retry-After": header}), "GET /x")
    assert refused.value.retry_after == seconds
