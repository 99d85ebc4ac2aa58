"""Has Great Expectations judge what a run staged, inside PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from softpro.db.database import Database
from softpro.entities import EntityType
from softpro.errors import CheckFailed
from softpro.quality.expectations import great_expectations
from softpro.quality.suite import ROWS_QUERY, Expectation

if TYPE_CHECKING:
    from great_expectations.validator.validator import Validator

SECONDS = 120
"""So long any statement of a check may take. Tens of thousands of records take one or two seconds."""
# Great Expectations keeps a context in a global variable, and promises nothing to two threads of a process.
_ONE_AT_A_TIME = Lock()
TOO_LONG = "canceling statement due to statement timeout"


@dataclass(frozen=True)
class Judged:
    """An expectation, how many records break it, and, where some do, the query that finds them all by their key."""

    expectation: Expectation
    unexpected: int = 0
    query: str | None = None


def judge(database: Database, entity_type: EntityType, expectations: Sequence[Expectation]) -> list[Judged]:
    """Judges what the sessions of this database see in the view: what one run staged. Raises CheckFailed where one
    expectation could not be judged."""
    try:
        with _ONE_AT_A_TIME:
            return _judge(database, entity_type, expectations)
    except CheckFailed:
        raise
    except Exception as failed:  # it has many kinds of errors of its own
        raise _failed("The checks", str(failed)) from failed


def view(entity_type: EntityType) -> str:
    """What shows a session the records of one run, in the schema staging."""
    return f"run_{entity_type.table}"


def took_too_long() -> CheckFailed:
    """For a statement that was ended for its time."""
    return CheckFailed(
        f"A check took longer than {SECONDS} s and was ended, so nothing was loaded: is a validationRules.pattern of "
        "the mappings one that takes PostgreSQL very long? Make it simpler, then sync again"
    )


def _judge(database: Database, entity_type: EntityType, expectations: Sequence[Expectation]) -> list[Judged]:
    great_expectations()
    from softpro.quality.validator import validator

    with validator(database, view(entity_type)) as validates:
        # Most are kept: which are not is asked of all in one query, and the rest, in several, only of those.
        broken = {number for number, _ in _broken(validates, dict(enumerate(expectations)), "BOOLEAN_ONLY")}
        detailed = _broken(
            validates,
            {number: expectations[number] for number in sorted(broken)},
            "BASIC",  # the fuller ones fetch every value that is unexpected
            unexpected_index_column_names=[entity_type.key],
            return_unexpected_index_query=True,
        )
        found = {number: _found(entity_type, expectations[number], result) for number, result in detailed}
    return [found.get(number, Judged(expectation)) for number, expectation in enumerate(expectations)]


def _broken(
    validates: Validator, numbered: dict[int, Expectation], result_format: str, **details: Any
) -> list[tuple[int, dict[str, Any]]]:
    """The numbers of the expectations that are broken, and what is told of them. Raises CheckFailed."""
    if not numbered:
        return []
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    results = validates.graph_validate(
        [
            ExpectationConfiguration(expectation.type, dict(expectation.kwargs), meta={"number": number})
            for number, expectation in numbered.items()
        ],
        runtime_configuration={"result_format": {"result_format": result_format, **details}},
    )
    for result in results:
        _require_ran(numbered[result.expectation_config.meta["number"]], result)
    return [(result.expectation_config.meta["number"], result.result) for result in results if not result.success]


def _found(entity_type: EntityType, expectation: Expectation, result: dict[str, Any]) -> Judged:
    if expectation.type == ROWS_QUERY:
        query = expectation.kwargs["unexpected_rows_query"].format(batch=view(entity_type))
        return Judged(expectation, result["observed_value"], query)
    # Its texts are quoted as Python does: only a suite's, which are ours, stand in it.
    return Judged(expectation, result["unexpected_count"], result["unexpected_index_query"].rstrip("; \n"))


def _require_ran(expectation: Expectation, result: Any) -> None:
    """Raises CheckFailed where the expectation raised instead of judging; its news of that is nested, or not."""
    info = result.exception_info or {}
    for news in [info] if "raised_exception" in info else info.values():
        if news["raised_exception"]:
            raise _failed(f"The check {expectation.name}", str(news["exception_message"]))


def _failed(what: str, message: str) -> CheckFailed:
    if TOO_LONG in message:
        return took_too_long()
    return CheckFailed(f"{what} could not run: {next(iter(message.splitlines()), message)}")
