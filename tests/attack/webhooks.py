"""Forge webhooks: signatures, bodies, times, receivers and headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from softpro.timestamps import format_milliseconds

from .attempts import SEED, Attempt, Verdict
from .http_client import JSON, Headers, Request
from .judge import answer, attack, shown
from .target import WEBHOOK_SECRET, Organization, Target

SIGNATURE = "X-SoftPro-Signature"
REFUSED = frozenset({400, 401, 404, 405, 413})
WRONG_SECRETS = (
    "",
    " ",
    "null",
    "secret",
    WEBHOOK_SECRET[1:],
    WEBHOOK_SECRET + " ",
    WEBHOOK_SECRET.rstrip("."),
    WEBHOOK_SECRET.upper(),
    WEBHOOK_SECRET[::-1],
    WEBHOOK_SECRET * 2,
    "\0" * 32,
    hashlib.sha256(WEBHOOK_SECRET.encode()).hexdigest(),
    base64.b64encode(WEBHOOK_SECRET.encode()).decode(),
)
ALTERED_BYTES = 60


def attempts(target: Target, wrong_secrets: tuple[str, ...] = WRONG_SECRETS) -> Iterator[Attempt]:
    """Yield forged deliveries for an integration that takes webhooks, and the controls.

    Args:
        target: the running product.
        wrong_secrets: the secrets that a forger guesses.
    """
    for number, organization in enumerate((target.own, target.other) * 3):
        yield Attempt("genuine", organization.name, partial(_genuine, target, organization, number), control=True)
    for number in range(10):
        for secret in wrong_secrets:
            body = event(target.own, f"secret-{number}")
            yield _forged(target, "wrong secret", repr(secret)[:20], body, sign(body, secret))
    yield from _encodings(target)
    yield from _altered(target)
    yield from _times(target)
    yield from _receivers(target)
    yield from _headers(target)
    yield from _malformed(target)
    for number in range(20):
        yield Attempt("replayed", f"delivery {number}", partial(_replayed, target, number))


def event(organization: Organization, event_id: str, **changes: Any) -> bytes:
    """Return the body of an event of the organization."""
    sent = {
        "id": f"evt-{event_id}",
        "type": "contact.updated",
        "timestamp": format_milliseconds(datetime.now(UTC)),
        "organizationId": organization.vendor,
        "entityType": "CONTACT",
        "entityId": organization.ids["contact_id"],
        "data": {"contactId": organization.ids["contact_id"]},
    }
    return json.dumps(sent | changes).encode()


def sign(body: bytes, secret: str = WEBHOOK_SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def delivery(organization: Organization, body: bytes, *signatures: str | bytes, headers: Headers = ()) -> Request:
    """Return the request that delivers the body to the organization's receiver."""
    signed: Headers = tuple((SIGNATURE, signature) for signature in signatures)
    path = f"/webhooks/{organization.ids['integration_id']}"
    return Request("POST", path, (JSON, *signed, *headers), body, stranger=True)


def _forged(target: Target, kind: str, name: str, body: bytes, *signatures: str | bytes) -> Attempt:
    return attack(target, kind, name, delivery(target.own, body, *signatures), REFUSED)


def _encodings(target: Target) -> Iterator[Attempt]:
    """Yield signatures of the right secret that are written in another way, or made by another function."""
    for number in range(3):
        body = event(target.own, f"encoding-{number}")
        key, good = WEBHOOK_SECRET.encode(), sign(body)
        raw = bytes.fromhex(good)
        written: dict[str, str | bytes] = {
            "upper case": good.upper(),
            "mixed case": good.title(),
            "base64": base64.b64encode(raw).decode(),
            "base64url": base64.urlsafe_b64encode(raw).decode(),
            "raw bytes": raw.replace(b"\r", b"x").replace(b"\n", b"x").replace(b"\0", b"x"),
            "with sha256=": f"sha256={good}",
            "with v1=": f"v1={good}",
            "with 0x": f"0x{good}",
            "cut": good[:-1],
            "cut to half": good[:32],
            "longer": good + "0",
            "twice": good + good,
            "quoted": f'"{good}"',
            "in a list": f"{good},{good}",
            "after a wrong one": f"{'0' * 64},{good}",
            "reversed": good[::-1],
            "wide digits": good.translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"}),
            "with spaces inside": f"{good[:32]} {good[32:]}",
            "with a tab inside": f"{good[:32]}\t{good[32:]}",
            "zeros": "0" * 64,
            "empty": "",
            "asterisk": "*",
            "null": "null",
            "none": "none",
            "SHA-1": hmac.new(key, body, hashlib.sha1).hexdigest(),
            "SHA-512": hmac.new(key, body, hashlib.sha512).hexdigest(),
            "SHA3-256": hmac.new(key, body, hashlib.sha3_256).hexdigest(),
            "MD5": hmac.new(key, body, hashlib.md5).hexdigest(),
            "without a key": hashlib.sha256(body).hexdigest(),
            "key before the body": hashlib.sha256(key + body).hexdigest(),
            "key after the body": hashlib.sha256(body + key).hexdigest(),
            "of nothing": sign(b""),
            "of the body's text": sign(json.dumps(json.loads(body), indent=1).encode()),
            "of the id": sign(json.loads(body)["id"].encode()),
        }
        for name, signature in written.items():
            yield _forged(target, "encoding of the signature", name, body, signature)


def _altered(target: Target) -> Iterator[Attempt]:
    """Yield bodies that were changed after they were signed."""
    body, chosen = event(target.own, "altered"), random.Random(SEED)
    good = sign(body)
    for at in sorted(chosen.sample(range(len(body)), ALTERED_BYTES)):
        changed = bytes([*body[:at], body[at] ^ 1 << chosen.randrange(7), *body[at + 1 :]])
        yield _forged(target, "altered body", f"byte {at}", changed, good)
    for name, changed in {
        "space at the end": body + b" ",
        "line at the end": body + b"\n",
        "space before": b" " + body,
        "byte order mark": b"\xef\xbb\xbf" + body,
        "cut": body[:-1],
        "empty": b"",
        "written again": json.dumps(json.loads(body), separators=(",", ":")).encode(),
        "field twice": body[:-1] + b', "id": "evt-other"}',
        "more fields": body[:-1] + b', "more": 1}',
        "another id": body.replace(b"evt-altered", b"evt-alterex"),
        "UTF-16": body.decode().encode("utf-16"),
        "two bodies": body + body,
    }.items():
        yield _forged(target, "altered body", name, changed, good)


def _times(target: Target) -> Iterator[Attempt]:
    """Yield signed events that are not current."""
    for seconds in (301, 330, 600, 3_600, 86_400, 31_536_000):
        for sign_of in (-1, 1):
            # a margin of seconds, so that the time of the run does not matter
            moment = datetime.now(UTC) + sign_of * timedelta(seconds=seconds + (60 if sign_of > 0 else 0))
            body = event(target.own, f"old-{seconds}-{sign_of}", timestamp=format_milliseconds(moment))
            yield _forged(target, "old or future time", f"{sign_of * seconds} s", body, sign(body))
    times: list[Any] = [
        None,
        "",
        "now",
        "0",
        0,
        datetime.now(UTC).timestamp(),
        -1,
        "9999-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00.000Z",
        [],
        {},
    ]
    for written in times:
        body = event(target.own, "time", timestamp=written)
        yield _forged(target, "old or future time", repr(written)[:24], body, sign(body))


def _receivers(target: Target) -> Iterator[Attempt]:
    """Yield signed events of one organization at the receiver of another, and at receivers that do not exist."""
    for number in range(5):
        for sender, receiver in ((target.own, target.other), (target.other, target.own)):
            body = event(sender, f"receiver-{number}")
            request = delivery(receiver, body, sign(body))
            yield attack(target, "another organization's event", f"{sender.name} to {receiver.name}", request, REFUSED)
    own = str(target.own.ids["integration_id"])
    for name in (
        "nobody",
        "00000000-0000-0000-0000-000000000000",
        own[:-1],
        own + "0",
        own.replace("-", "") + "x",
        "%00",
        "*",
    ):
        body = event(target.own, "nowhere")
        request = replace(delivery(target.own, body, sign(body)), target=f"/webhooks/{name}")
        yield attack(target, "unknown receiver", name, request, REFUSED)
    for vendor in (
        "",
        "*",
        target.own.vendor.upper() + "x",
        f"{target.own.vendor},{target.other.vendor}",
        target.own.name,
        None,
        [target.own.vendor],
    ):
        body = event(target.own, "vendor", organizationId=vendor)
        yield _forged(target, "another organization's event", repr(vendor)[:30], body, sign(body))


def _headers(target: Target) -> Iterator[Attempt]:
    """Yield deliveries without their signature, with several, or with it in another place."""
    body = event(target.own, "headers")
    good, wrong, other = sign(body), "0" * 64, sign(b"another body")
    for signatures in ((), ("",), (wrong, wrong), (wrong, good), ("", good), (other, good), (wrong, wrong, good)):
        yield _forged(target, "missing or doubled header", f"{len(signatures)} signatures", body, *signatures)
    for name in (
        "X-Signature",
        "X-SoftPro-Signature-256",
        "X_SoftPro_Signature",
        "Signature",
        "X-Hub-Signature-256",
        "Authorization",
    ):
        request = delivery(target.own, body, headers=((name, good),))
        yield attack(target, "missing or doubled header", name, request, REFUSED)
    for query in (f"signature={good}", f"X-SoftPro-Signature={good}"):
        request = delivery(target.own, body)
        yield attack(
            target,
            "missing or doubled header",
            query[:20],
            replace(request, target=f"{request.target!s}?{query}"),
            REFUSED,
        )
    cookie = delivery(target.own, body, headers=(("Cookie", f"X-SoftPro-Signature={good}"),))
    yield attack(target, "missing or doubled header", "cookie", cookie, REFUSED)
    for length in (0, 1, len(body) - 1):  # the rest of the body is another request to the server
        request = delivery(target.own, body, good, headers=(("Content-Length", str(length)), ("Connection", "close")))
        yield attack(target, "missing or doubled header", f"length {length}", request, REFUSED)
    chunked = delivery(
        target.own, b"%x\r\n%s \r\n0\r\n\r\n" % (len(body) + 1, body), good, headers=(("Transfer-Encoding", "chunked"),)
    )
    yield attack(target, "missing or doubled header", "chunked with another body", chunked, REFUSED)
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        request = replace(delivery(target.own, body, good), method=method)
        yield attack(target, "another method", method, request, REFUSED)


def _malformed(target: Target) -> Iterator[Attempt]:
    """Yield signed bodies that are no event."""
    whole = json.loads(event(target.own, "malformed"))
    bodies = [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"1",
        b'"text"',
        b"[" * 5_000,
        b"{" * 5_000,
        b"\xff\xfe",
        b'{"id": NaN}',
        b"x" * 1_000_001,
    ]
    bodies += [
        json.dumps({key: value for key, value in whole.items() if key != name}).encode()
        for name in whole
        if name != "data"
    ]
    for name in ("id", "type", "organizationId", "entityType", "entityId"):
        bodies += [
            json.dumps(whole | {name: value}).encode()
            for value in (None, 1, "", "x" * 257, "a\0b", "a\nb", ["x"], {"a": 1})
        ]
    for body in bodies:
        yield _forged(target, "signed but no event", body[:30].decode(errors="replace"), body, sign(body))


def _genuine(target: Target, organization: Organization, number: int) -> Verdict:
    body = event(organization, f"genuine-{number}")
    response = target.send(delivery(organization, body, sign(body)))
    stored = "softpro.webhook_events" in str(target.changed())
    return Verdict(answer(response), "" if response.status == 202 and stored else f"status {shown(response)}")


def _replayed(target: Target, number: int) -> Verdict:
    """Deliver an event again after it was processed: it may be counted, and must not be processed again."""
    body = event(target.own, f"replayed-{number}")
    request = delivery(target.own, body, sign(body))
    target.send(request)
    with target.database.connect() as connection:
        connection.execute(PROCESS)
        before = connection.execute(EVENTS).fetchall()
        response = target.send(request)
        after = connection.execute(EVENTS).fetchall()
    target.changed()
    return Verdict(f"{answer(response)} known", "" if before == after else "the event was stored or is processed again")


PROCESS = "update softpro.webhook_events set processed = true, processed_at = now() where not processed"
EVENTS = "select id, event_id, processed, processed_at, payload, attempts from softpro.webhook_events order by id"
