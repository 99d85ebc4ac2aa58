"""Keep only the shape of a failed call in the logs, without secrets and personal data."""

from __future__ import annotations

import json

from requests.structures import CaseInsensitiveDict

from softpro.softpro360 import redaction
from softpro.softpro360.transport import ApiResponse

JSON = "application/json; charset=utf-8"


def answer(body: bytes, content_type: str = JSON, status: int = 500, **headers: str) -> ApiResponse:
    return ApiResponse(status, "", CaseInsensitiveDict({"Content-Type": content_type, **headers}), body)


def test_names_and_lengths_stay_and_values_go() -> None:
    order = {"orderId": "ord-1", "notes": "call the seller", "purchasePrice": 350000.5, "buyer": [{"name": "Rosa"}] * 3}
    shown = redaction.redact_response(
        answer(json.dumps({"data": [order], "pagination": {"total": 9, "hasMore": True}}).encode())
    )
    assert shown is not None
    assert shown["body"] == {
        "data": [
            {
                "orderId": "ord-1",
                "notes": "(15 characters)",
                "purchasePrice": "(a number)",
                "buyer": [{"name": "(4 characters)"}, {"name": "(4 characters)"}, "… 3 in all"],
            }
        ],
        "pagination": {"total": 9, "hasMore": True},
    }


def test_the_vendors_own_words_and_the_headers_that_matter_stay() -> None:
    body = {"success": False, "error": {"code": "VALIDATION_ERROR", "message": "limit is too large"}}
    shown = redaction.redact_response(
        answer(json.dumps(body).encode(), status=400, **{"Retry-After": "7", "Set-Cookie": "session=abc"})
    )
    assert shown == {"statusCode": 400, "headers": {"Content-Type": JSON, "Retry-After": "7"}, "body": body}


def test_the_beginning_of_a_proxys_page_is_kept_without_possible_tokens() -> None:
    page = b"<html><h1>Bad gateway</h1> token=eyJhbGciOiJIUzI1NiJ9.secret </html>"
    shown = redaction.redact_response(answer(page, "text/html"))
    assert shown is not None
    assert shown["body"]["bytes"] == len(page)
    assert "Bad gateway" in shown["body"]["beginning"]
    assert "eyJ" not in shown["body"]["beginning"]


def test_only_the_length_of_a_truncated_body_is_kept() -> None:
    shown = redaction.redact_response(answer(b'{"data": [{"firstName": "Rosa'))
    assert shown is not None
    assert shown["body"] == {"bytes": 29, "unreadable": True}


def test_depth_and_length_are_bounded() -> None:
    deep: object = "x"
    for _ in range(50):
        deep = {"inner": [deep]}
    shown = redaction.redact_response(answer(json.dumps(deep).encode()))
    assert len(json.dumps(shown)) < 500


def test_no_response_is_logged_as_such() -> None:
    assert redaction.redact_response(None) is None


def test_a_request_shows_what_was_asked_and_the_shape_of_what_was_sent() -> None:
    shown = redaction.redact_request(
        "PATCH", "/contacts/{contactId}", {"contactId": "con-1"}, {"limit": 5, "search": "Rosa"}, 2, b'{"email": "a@b"}'
    )
    assert shown == {
        "method": "PATCH",
        "route": "/contacts/{contactId}",
        "ids": {"contactId": "con-1"},
        "parameters": {"limit": 5, "search": "(4 characters)"},
        "attempt": 2,
        "body": {"email": "(3 characters)"},
    }


def test_names_that_no_column_can_hold_and_texts_that_look_like_secrets_are_cut() -> None:
    body = {"error": {"message": "Token eyJhbGciOiJIUzI1NiJ9.abcdefghijkl is expired", "details": {"a\x00b": "v"}}}
    shown = redaction.redact_response(answer(json.dumps(body).encode(), status=401))
    assert shown is not None
    assert shown["body"] == {"error": {"message": "Token … is expired", "details": {"ab": "(1 characters)"}}}


def test_values_that_only_look_like_ids_or_dates_are_not_shown() -> None:
    body = {"customFields": {"taxId": "123-45-6789", "birthDate": "1980-01-01"}}
    shown = redaction.redact_response(answer(json.dumps(body).encode()))
    assert shown is not None
    assert shown["body"] == {"customFields": {"taxId": "(11 characters)", "birthDate": "(10 characters)"}}
