"""Let Great Expectations evaluate, inside PostgreSQL, the records that a run staged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from softpro.db.database import Database
from softpro.entities import EntityType
from softpro.errors import CheckFailed, CheckTooSlow
from softpro.quality.expectations import great_expectations
from softpro.quality.suite import ROWS_QUERY, Expectation

if TYPE_CHECKING:
    from great_expectations.validator.validator import Validator

STATEMENT_TIMEOUT_SECONDS = 120
"""The limit for each statement of a check. Tens of thousands of records take one or two seconds."""
# Great Expectations keeps a context in a global variable and is not thread-safe.
_LOCK = Lock()
TOO_LONG = "canceling statement due to statement timeout"


@dataclass(frozen=True)
class Judged:
    """An expectation, the number of records that break it, and a query of their keys if there are any."""

    expectation: Expectation
    unexpected: int = 0
    query: str | None = None


def judge(database: Database, entity_type: EntityType, expectations: Sequence[Expectation]) -> list[Judged]:
    """Evaluate the expectations for the records that the database's sessions see in the view: those of one run.

    Raises:
        CheckFailed: an expectation could not be evaluated.
    """
    try:
        with _LOCK:
            return _judge(database, entity_type, expectations)
    except CheckFailed:
        raise
    except Exception as failed:  # Great Expectations raises many kinds of errors
        raise _failed("The checks", str(failed)) from failed


def view(entity_type: EntityType) -> str:
    """Return the view in the schema `staging` that shows a session the records of one run."""
    return f"run_{entity_type.table}"


def timeout_error() -> CheckTooSlow:
    """Return the error for a statement that was cancelled for its duration."""
    return CheckTooSlow(
        "A check took too long and was cancelled, so nothing was loaded. "
        "A validationRules.pattern may be too slow for PostgreSQL: make it simpler, then sync again"
    )


def _judge(database: Database, entity_type: EntityType, expectations: Sequence[Expectation]) -> list[Judged]:
    great_expectations()
    from softpro.quality.validator import validator

    with validator(database, view(entity_type)) as validates:
        # Most expectations hold. One query finds the broken ones, and further queries get only their details.
        broken = {number for number, _ in _broken(validates, dict(enumerate(expectations)), "BOOLEAN_ONLY")}
        detailed = _broken(
            validates,
            {number: expectations[number] for number in sorted(broken)},
            "BASIC",  # fuller formats fetch every unexpected value
            unexpected_index_column_names=[entity_type.key],
            return_unexpected_index_query=True,
        )
        found = {number: _found(entity_type, expectations[number], result) for number, result in detailed}
    return [found.get(number, Judged(expectation)) for number, expectation in enumerate(expectations)]


def _broken(
    validates: Validator, numbered: dict[int, Expectation], result_format: str, **details: Any
) -> list[tuple[int, dict[str, Any]]]:
    """Return the numbers of the expectations that are broken, with their details.

    Raises:
        CheckFailed: an expectation could not be evaluated.
    """
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
    # Its texts are quoted as in Python, which is safe because they come from our own suites.
    return Judged(expectation, result["unexpected_count"], result["unexpected_index_query"].rstrip("; \n"))


def _require_ran(expectation: Expectation, result: Any) -> None:
    """Check that the expectation was evaluated. Great Expectations reports errors nested or not.

    Raises:
        CheckFailed: the expectation raised an error.
    """
    info = result.exception_info or {}
    for report in [info] if "raised_exception" in info else info.values():
        if report["raised_exception"]:
            raise _failed(f"The check {expectation.name}", str(report["exception_message"]))


def _failed(what: str, message: str) -> CheckFailed:
    if TOO_LONG in message:
        return timeout_error()
    return CheckFailed(f"{what} could not run: {next(iter(message.splitlines()), message)}")
