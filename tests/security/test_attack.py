"""Carry out a sample of `make attack`, and show that each suite notices an opened right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import pytest

from ..attack import callers, ciphertexts, cookies, database, identities, injections, paths, webhooks
from ..attack.__main__ import SUITES, table
from ..attack.attempts import Attempt, Tally, Verdict, run, sample
from ..attack.target import OTHER, WEBHOOK_SECRET, Target, running_target
from ..support.databases import Server, execute
from ..support.routes import ROUTES
from ..support.sandbox import Sandbox

SIZE = 40
OPENED = 12
CHANGE_ANOTHER = f"""
create function public.forged() returns trigger language plpgsql security definer as $$
begin
    if new.organization_id <> '{OTHER}' then
        update softpro.integrations set last_error_message = 'forged' where organization_id = '{OTHER}';
    end if;
    return new;
end $$;
create trigger forged after update on softpro.integrations for each row execute function public.forged()
"""

SWITCHES = ("body syncEnabled", "body pushDeletes", "body syncDocuments", "body webhooksEnabled")


@pytest.fixture(scope="module")
def target(server: Server, sandbox: Sandbox) -> Iterator[Target]:
    with running_target(server, sandbox) as started:
        yield started


@contextmanager
def opened(target: Target, statement: str, close: str) -> Iterator[None]:
    """Open a right in the database for the block."""
    execute(target.database, statement)
    target.state.keep()
    yield
    execute(target.database, close)
    target.state.keep()


def of_kind(found: Iterator[Attempt], *texts: str, size: int = OPENED) -> Iterator[Attempt]:
    """Yield the first attempts whose kind or name holds one of the texts, without controls."""
    named = (each for each in found if any(text in f"{each.kind} {each.name}" for text in texts) and not each.control)
    yield from islice(named, size)


@pytest.mark.parametrize("suite", SUITES)
def test_a_sample_of_each_suite_gets_nothing_through(target: Target, suite: str) -> None:
    tally = run(suite, sample(SUITES[suite](target), SIZE))
    assert (tally.through, tally.failed_controls) == ([], [])
    assert tally.attempts == SIZE
    assert tally.controls > 0


def test_a_confinement_that_is_missing_is_noticed(target: Target) -> None:
    kept = "create table public.kept as table softpro.confinements; delete from softpro.confinements"
    back = "insert into softpro.confinements table public.kept; drop table public.kept"
    with opened(target, kept, back):
        tally = run("callers", of_kind(callers.attempts(target), "operator confined by name GET"))
    assert len(tally.through) == OPENED
    assert all("shows" in problem or "status 200" in problem for problem in tally.through)


def test_a_route_with_too_small_a_right_is_noticed(target: Target) -> None:
    closed = [replace(route, right="configure") for route in ROUTES if route.path == "/sync/logs"]
    tally = run("callers", of_kind(callers.attempts(target, closed), "reader GET", "syncer GET"))
    assert len(tally.through) == 2


def test_a_path_that_is_open_is_noticed(target: Target) -> None:
    admin, *_ = identities.users(target)
    tally = run("paths", of_kind(paths.attempts(target, stranger=replace(admin, name="anonymous")), "anonymous: "))
    assert len(tally.through) >= len(paths.SAME)


def test_a_change_of_another_organization_is_noticed(target: Target) -> None:
    with opened(target, CHANGE_ANOTHER, "drop function public.forged cascade"):
        tally = run("injections", of_kind(injections.attempts(target), *SWITCHES, size=100))
    assert any("changed softpro.integrations" in problem for problem in tally.through)


def test_a_change_by_cookie_is_noticed(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cookies, "forgeries", lambda own: {"own page": (("Origin", own), cookies.CSRF)})
    tally = run("cookies", of_kind(cookies.attempts(target), "own page"))
    assert len(tally.through) == OPENED


def test_a_webhook_of_someone_with_the_secret_is_noticed(target: Target) -> None:
    tally = run("webhooks", of_kind(webhooks.attempts(target, (WEBHOOK_SECRET,)), "wrong secret"))
    assert len(tally.through) == tally.attempts


def test_a_ciphertext_that_opens_is_noticed(target: Target) -> None:
    found = ciphertexts.attempts(target, (ciphertexts.OTHER_KEY,))
    tally = run("ciphertexts", of_kind(found, "sealed with another key"))
    assert len(tally.through) == tally.attempts // 2  # each second one names the key of the cell


def test_a_grant_of_too_much_is_noticed(target: Target) -> None:
    grant = "grant select on softpro.integrations to attack_reader"
    with opened(target, "select 1", "revoke all on softpro.integrations from attack_reader"):
        found = database.attempts(target, (grant,))
        tally = run("database", of_kind(found, "reader: select * from softpro.integrations"))
    assert tally.through


def test_counts_are_shown_with_what_got_through() -> None:
    tally = Tally("callers")
    for number in range(3):
        tally.count(Attempt("a kind", f"number {number}", lambda: Verdict("")), Verdict("403"))
    tally.count(Attempt("a kind", "leak", lambda: Verdict("")), Verdict("200", "shows a name"))
    tally.count(Attempt("a kind", "allowed", lambda: Verdict(""), control=True), Verdict("404", "status 404"))

    assert tally.through == ["a kind: leak: shows a name"]
    assert tally.failed_controls == ["a kind: allowed: status 404"]
    assert not tally.passed
    assert list(table([tally]))[-1] == "4 attempts, 1 through"
    assert not Tally("nothing").passed
