"""Probe a live account with reads only for what the contract leaves open, and report it in a form fit for the vendor.

A report contains counts and the names of fields and codes, but no other values of records. A name that is no identifier
is only counted, because it may be personal data: a key in a map of people, a sentence in place of a code.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from softpro.db import queries
from softpro.db.database import Connection
from softpro.entities import EntityType
from softpro.errors import RecordNotFound, ValidationError
from softpro.softpro360 import capabilities
from softpro.softpro360.calls import Call
from softpro.softpro360.client import Client, Page
from softpro.softpro360.contract import ENUMS, FIELDS, MAX_PAGE_SIZE, RATE_LIMIT, Fields
from softpro.softpro360.records import Record
from softpro.softpro360.responses import json_body, response_date
from softpro.softpro360.transport import ApiResponse
from softpro.timestamps import format_time

OVERSIZED_PAGE = 5 * MAX_PAGE_SIZE
"""A page size beyond the contract, to find out whether pages can be longer."""

PAGE_SIZES = (MAX_PAGE_SIZE, 100, 50, 20, 10)
"""Page sizes to try in turn until one is accepted."""

SKEW_SECONDS = 2
"""A smaller difference counts as none, because `Date` has whole seconds."""

NOT_ASKED = (
    "Does a refresh rotate the refresh token?",
    "Is If-Match honoured?",
    "Is there a feed of deletes?",
    "Does a webhook carry the record or only its ids?",
)
"""Further open questions, which no read can answer."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Finding:
    """A question with two answers.

    Attributes:
        question: the question.
        contract: the answer of the contract.
        answer: the answer of the account.
        facts: the capabilities that follow from the answer.
    """

    question: str
    contract: str
    answer: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Return whether the account deviates from the contract."""
        return bool(self.contract) and self.answer != self.contract and not self.answer.startswith("unknown")


@dataclass(frozen=True)
class Sample:
    """The first page of a list in ascending order, the first in descending order, and one starting at `pivot`."""

    entity_type: EntityType
    upwards: Page
    downwards: Page
    pivot: datetime | None
    since: Page | None

    @property
    def records(self) -> list[Record]:
        """Return the readable records of all pages."""
        pages = [self.upwards, self.downwards, *([self.since] if self.since else [])]
        return [record for page in pages for record in _readable(page)]


def probe(connection: Connection, client: Client, integration_id: UUID) -> list[Finding]:
    """Probe the account, and store the answers as the integration's capabilities. This takes about a dozen requests.

    Args:
        connection: gives the database's time, to compare clocks with.
        client: the account's client.
        integration_id: the integration.

    Raises:
        SoftProError: as `ApiTransport.call` does.
    """
    before = queries.now(connection)
    profile = client.call(Call("GET", "/user/profile"), _whole)
    after = queries.now(connection)
    longest, limit = _longest_page(client)
    samples = [_sample(client, entity_type, limit) for entity_type in EntityType]
    records = [record for sample in samples for record in sample.records]
    findings = [
        _check_sorting(samples),
        _check_filter(samples),
        longest,
        _check_etags(client, samples),
        _announces_limit(profile),
        _skew(profile, before, after),
        _listed("Fields outside the contract", _unknown_fields(samples)),
        _listed("Codes outside the contract", _unknown_codes(samples)),
        _listed("Fields of the contract that no record held", _unseen(samples)),
        _listed("Records that can't be placed", _unreadable(samples)),
        Finding("Records looked at", "", str(len({(type(r), r.key.id) for r in records}))),
    ]
    facts = {name: value for finding in findings for name, value in finding.facts.items()}
    report = [{"question": f.question, "contract": f.contract, "answer": f.answer} for f in findings]
    capabilities.note(connection, integration_id, **facts, report=Jsonb(report), probed_at=after)
    return findings


def _longest_page(client: Client) -> tuple[Finding, int]:
    """Return the finding about the longest page, and the largest page size that may be requested."""
    question, contract = "Records on the longest page", str(MAX_PAGE_SIZE)
    limit, page = _largest_accepted(client, PAGE_SIZES)
    if page.has_more and len(page.records) < limit:
        return Finding(question, contract, str(len(page.records)), {"page_limit": len(page.records)}), limit
    if limit < MAX_PAGE_SIZE:
        return Finding(question, contract, str(limit), {"page_limit": limit}), limit
    if not page.has_more:
        return Finding(question, contract, f"unknown: only {page.total} transactions"), limit
    try:
        beyond = client.select(EntityType.TRANSACTION, {"limit": OVERSIZED_PAGE})
    except ValidationError:
        return Finding(question, contract, contract, {"page_limit": limit}), limit
    return Finding(question, contract, str(max(limit, len(beyond.records))), {"page_limit": limit}), limit


def _largest_accepted(client: Client, limits: Sequence[int]) -> tuple[int, Page]:
    try:
        return limits[0], client.select(EntityType.TRANSACTION, {"limit": limits[0]})
    except ValidationError:
        if len(limits) == 1:
            raise
        return _largest_accepted(client, limits[1:])


def _sample(client: Client, entity_type: EntityType, limit: int) -> Sample:
    def ask(order: str, **more: str) -> Page:
        return client.select(entity_type, {"limit": limit, "sortBy": "updatedAt", "sortOrder": order, **more})

    upwards, downwards = ask("asc"), ask("desc")
    pivot = max((record.key.updated_at for record in [*_readable(upwards), *_readable(downwards)]), default=None)
    since = ask("asc", updatedFrom=format_time(pivot)) if pivot is not None else None
    return Sample(entity_type, upwards, downwards, pivot, since)


def _check_sorting(samples: Iterable[Sample]) -> Finding:
    def judge(sample: Sample) -> bool | None:
        up, down = (_times(page) for page in (sample.upwards, sample.downwards))
        if len({*up, *down}) < 2:
            return None
        return all(a <= b for a, b in pairwise(up)) and all(a >= b for a, b in pairwise(down))

    return _judged("Can lists be sorted by updatedAt?", "sorts_by_updated_at", map(judge, samples))


def _check_filter(samples: Iterable[Sample]) -> Finding:
    def judge(sample: Sample) -> bool | None:
        older = [time for page in (sample.upwards, sample.downwards) for time in _times(page) if time != sample.pivot]
        since = _times(sample.since) if sample.since else []
        if sample.pivot is None or not older or not since:
            return None
        return all(time >= sample.pivot for time in since)

    return _judged("Does updatedFrom filter lists?", "filters_updated_from", map(judge, samples))


def _check_etags(client: Client, samples: Iterable[Sample]) -> Finding:
    def judge(sample: Sample) -> bool | None:
        try:
            one = client.record(sample.entity_type, sample.records[0].key.id)
        except (IndexError, RecordNotFound):
            return None
        return isinstance(one, Record) and bool(one.etag)

    return _judged("Do single records carry an ETag?", "sends_etags", map(judge, samples))


def _judged(question: str, fact: str, judgements: Iterable[bool | None]) -> Finding:
    """Return yes if all lists that allow an answer agree."""
    decided = [judgement for judgement in judgements if judgement is not None]
    if not decided:
        return Finding(question, "yes", "unknown: too few records, or all changed at once")
    return Finding(question, "yes", "yes" if all(decided) else "no", {fact: all(decided)})


def _announces_limit(profile: ApiResponse) -> Finding:
    limit, remaining = (profile.headers.get(f"X-RateLimit-{name}") for name in ("Limit", "Remaining"))
    answer = f"{limit} a minute" if limit and remaining else "not announced"
    return Finding("What rate limit do the headers announce?", f"{RATE_LIMIT} a minute", answer)


def _skew(profile: ApiResponse, before: datetime, after: datetime) -> Finding:
    """Compare the clocks. `Date` is truncated to whole seconds, so half a second is added."""
    question, contract = "How far is the vendor's clock ahead of the database's?", f"less than {SKEW_SECONDS} s"
    took = (after - before).total_seconds()
    if took > SKEW_SECONDS:  # a wait or a retry makes the time of the response uncertain
        return Finding(question, contract, f"unknown: the call took {took:.1f} s")
    moment = response_date(profile)
    if moment is None:
        return Finding(question, contract, "unknown: no Date")
    seconds = (moment - (before + (after - before) / 2)).total_seconds() + 0.5
    return Finding(question, contract, contract if abs(seconds) < SKEW_SECONDS else f"{seconds:+.1f} s")


def _listed(question: str, names: Counter[str]) -> Finding:
    answer = ", ".join(f"{name} ({count})" if count else name for name, count in sorted(names.items()))
    return Finding(question, "none", answer or "none")


def _unknown_fields(samples: Iterable[Sample]) -> Counter[str]:
    return _count(samples, lambda path, value, known: f"{path}: {_kind(value)}" if known is False else None)


def _unknown_codes(samples: Iterable[Sample]) -> Counter[str]:
    def strange(path: str, value: Any, known: bool) -> str | None:
        codes = ENUMS.get(path.rpartition(".")[2])
        if not known or codes is None or value is None or value in codes.split():
            return None
        return f"{path}: {value if isinstance(value, str) and _CODE.fullmatch(value) else 'no code'}"

    return _count(samples, strange)


def _unseen(samples: Iterable[Sample]) -> Counter[str]:
    """Return the contract's fields that no record has. Fields below empty objects and arrays are not checked."""
    seen: set[str] = set()
    _count(samples, lambda path, value, known: seen.add(path))
    return Counter(
        {
            path: 0
            for sample in samples
            if sample.records
            for path in (f"{sample.entity_type.value.lower()}.{name}" for name in FIELDS[sample.entity_type])
            if path not in seen
        }
    )


def _unreadable(samples: Iterable[Sample]) -> Counter[str]:
    return Counter(
        f"{sample.entity_type.value.lower()}: {record.reason}"
        for sample in samples
        for record in sample.upwards.records
        if not isinstance(record, Record)
    )


def _count(samples: Iterable[Sample], name: Callable[[str, Any, bool], str | None]) -> Counter[str]:
    """Count the records for which `name` returns a name, given each field's path, value and whether it is known."""
    counted: Counter[str] = Counter()
    for sample in samples:
        prefix = sample.entity_type.value.lower()
        for payload in {record.key.id: record.payload for record in sample.records}.values():
            walked = _walk(_decode(payload), FIELDS[sample.entity_type], prefix)
            counted.update({named for found in walked if (named := name(*found)) is not None})
    return counted


def _walk(value: Any, known: Fields | None, path: str) -> Iterator[tuple[str, Any, bool]]:
    """Yield each field below a value as (path, value, known to the contract). Free-form objects are not entered."""
    if isinstance(value, list):
        for element in value:
            yield from _walk(element, known, path)
    elif isinstance(value, dict) and known:
        for name, inner in value.items():
            yield f"{path}.{name if _NAME.fullmatch(name) else '(no identifier)'}", inner, name in known
            if name in known:
                yield from _walk(inner, known[name], f"{path}.{name}")


def _kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "number", float: "number", str: "text", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _readable(page: Page) -> list[Record]:
    return [record for record in page.records if isinstance(record, Record)]


def _times(page: Page) -> list[datetime]:
    return [record.key.updated_at for record in _readable(page)]


def _whole(response: ApiResponse, what: str) -> ApiResponse:
    json_body(response, what)
    return response
