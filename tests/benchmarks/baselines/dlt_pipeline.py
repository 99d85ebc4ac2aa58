"""Merge the same list into a table with dlt, as an experienced user of dlt would write it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import dlt
from dlt.destinations import postgres
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import OffsetPaginator
from psycopg.conninfo import conninfo_to_dict

from ..measured_job import Job, run

# dlt turns objects into columns by default and lists into tables. The product keeps lists as JSON, so dlt does too,
# also for the custom fields. `max_table_nesting=0` is no alternative: it keeps objects as JSON as well, and is no
# faster.
AS_JSON = ("buyer", "seller", "lender", "otherParties", "customFields")
# Without a hint dlt adds a second column for amounts with cents. A double costs it less than a decimal.
AMOUNTS = ("purchasePrice", "loanAmount", "downPayment", "closingCost")
COLUMNS = {name: {"data_type": "json"} for name in AS_JSON} | {name: {"data_type": "double"} for name in AMOUNTS}
UPDATED = dlt.sources.incremental("updatedAt", initial_value="1970-01-01T00:00:00.000Z", row_order="asc")


def load(job: Job) -> None:
    """Load all transactions into the schema `softpro` of the job's database, through files of the job's format."""
    pipeline = dlt.pipeline("transactions", destination=postgres(_address(job)), dataset_name="softpro")
    transactions = dlt.resource(
        _transactions, name="transactions", write_disposition="merge", primary_key="orderId", columns=COLUMNS
    )
    pipeline.run(transactions(job["api"], job["token"], job["page"]), loader_file_format=job["file_format"])


def _transactions(api: str, token: str, page: int, updated: Any = UPDATED) -> Iterator[list[dict[str, Any]]]:
    client = RESTClient(
        api,
        auth=BearerTokenAuth(token),
        paginator=OffsetPaginator(limit=page, total_path="pagination.total"),
        data_selector="data",
    )
    parameters = {"updatedFrom": updated.last_value, "sortBy": "updatedAt", "sortOrder": "asc"}
    yield from client.paginate("/transactions", params=parameters)


def _address(job: Job) -> str:
    """Return the database address as dlt wants it: the socket's directory as host, and an unused password."""
    where = conninfo_to_dict(job["conninfo"])
    return f"postgresql://{where['user']}:none@{quote(str(where['host']), safe='')}/{where['dbname']}"


if __name__ == "__main__":
    run(load)
