"""Refuse at once where no place is free or a rate is used up, and say what failed and to whom."""

from __future__ import annotations

import pytest

from softpro.errors import (
    Busy,
    ConsentRefused,
    DatabaseBusy,
    DatabaseUnavailable,
    NetworkError,
    ServerError,
    SettingsError,
    SoftProError,
    TooManyRequests,
)
from softpro.settings import WebSettings, load
from softpro_web import limiters
from softpro_web.limiters import Places, Rate, network
from softpro_web.responses import describe, describe_to_stranger, failure


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_places_are_limited_in_all_and_for_each() -> None:
    limited = Places(total=3, each=2)
    with limited.take("ann"), limited.take("ann"):
        with pytest.raises(Busy), limited.take("ann"):
            pass
        with limited.take("bob"), pytest.raises(Busy), limited.take("eve"):
            pass
        assert limited.is_free("bob")
    assert limited.is_free("ann")
    assert not limited._taken


def test_a_place_is_free_again_after_an_error() -> None:
    limited = Places(total=1, each=1)
    with pytest.raises(ZeroDivisionError), limited.take("ann"):
        raise ZeroDivisionError
    assert limited.is_free("ann")


def test_a_rate_allows_a_burst_and_then_so_many_per_second() -> None:
    clock = Clock()
    rate = Rate(per_second=2, burst=3, clock=clock)
    for _ in range(3):
        rate.spend("a")
    with pytest.raises(TooManyRequests) as refused:
        rate.spend("a")
    assert refused.value.retry_after == 1
    rate.spend("b")
    clock.now = 0.5
    rate.spend("a")
    with pytest.raises(TooManyRequests):
        rate.spend("a")
    rate.charge("b", 100)
    clock.now = 1.0
    rate.spend("b")


def test_the_memory_for_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiters, "MAX_ADDRESSES", 10)
    rate = Rate(per_second=1, burst=1, clock=Clock())
    for number in range(100):
        rate.spend(str(number))
    assert list(rate._left) == [str(number) for number in range(90, 100)]


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_a_client_is_an_address_or_an_ipv6_network(address: str, client: str) -> None:
    assert network(address) == client


@pytest.mark.parametrize(
    ("failed", "status", "code"),
    [
        (NetworkError("no route"), 503, "NETWORK_ERROR"),
        (ServerError("broken", status_code=500), 502, "SOFTPRO_ERROR"),
        (DatabaseUnavailable("host 10.1.2.3"), 503, "DATABASE_UNAVAILABLE"),
        (DatabaseBusy("locked"), 503, "BUSY"),
        (ConsentRefused("no"), 403, "CONSENT_REFUSED"),
    ],
)
def test_each_error_has_its_status(failed: SoftProError, status: int, code: str) -> None:
    shown = describe(failed)
    assert (shown.status_code, shown.code) == (status, code)
    assert "10.1.2.3" not in shown.message


def test_a_network_error_has_the_specifications_status() -> None:
    assert NetworkError("no route").status_code == 503


def test_a_stranger_learns_nothing_about_settings() -> None:
    missing = SettingsError(["INTEGRATION_ENCRYPTION_KEY is not set"])
    assert "INTEGRATION_ENCRYPTION_KEY" in describe(missing).message
    assert "INTEGRATION_ENCRYPTION_KEY" not in describe_to_stranger(missing).message
    page = failure(ConsentRefused("<b onload=x> & more"), as_page=True)
    assert b"&lt;b onload=x&gt; &amp; more" in page.body
    assert b"<b " not in page.body


def test_a_message_is_one_line_without_control_characters() -> None:
    error = SoftProError("a\r\nb\x1b[2Jc\x85d\u2028e\ud83df")
    assert str(error) == "a\\x0d\\x0ab\\x1b[2Jc\\x85d\\u2028e\ud83df"


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("", []),
        ("https://app.example.com", ["https://app.example.com"]),
        ("https://a.example, http://localhost:3000/", ["https://a.example", "http://localhost:3000"]),
    ],
)
def test_allowed_origins_are_a_list(monkeypatch: pytest.MonkeyPatch, value: str, origins: list[str]) -> None:
    monkeypatch.setenv("SOFTPRO_ALLOWED_ORIGINS", value)
    assert load(WebSettings)[0].origins == origins


@pytest.mark.parametrize(
    "value",
    ["*", "null", "http://app.example.com", "https://a.example/path", "https://a.example?x", "https://u@a.example"],
)
def test_anything_but_an_origin_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SOFTPRO_ALLOWED_ORIGINS", value)
    with pytest.raises(SettingsError, match="SOFTPRO_ALLOWED_ORIGINS is wrong"):
        load(WebSettings)
