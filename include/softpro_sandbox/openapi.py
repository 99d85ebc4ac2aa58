"""Describe the calls of the API in OpenAPI, with the responses they really return."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from softpro_sandbox.response_models import ErrorResponse
from softpro_sandbox.routes.dependencies import error_response_schema

DESCRIPTION = """\
A local SoftPro 360: OAuth 2.0, profile, transactions with their parties, property and documents, contacts and
statuses, with generated records.

* **Rate limit**: `rateLimit` requests in any 60 s per grant, 100 unless switched; rejected requests count too.
  Every response to a grant has `X-RateLimit-Limit` and `X-RateLimit-Remaining`. A 429 has `Retry-After` in seconds.
* **Lists are live**: a record that changes during paging moves. Many records can share one `updatedAt`. A change can
  surface late, each record after its own delay.
* **Errors** have one envelope. A proxy in front may return HTML, nothing, or half a body instead.
* **Webhooks** are sent for every change once `PUT /sandbox/webhooks` has registered a receiver.
* Calls under `/sandbox` set switches and change records; they are not part of SoftPro 360's API.
"""


def describe(app: FastAPI) -> dict[str, Any]:
    """Build the OpenAPI description; FastAPI's own 422 is replaced by the 400 that is really returned."""
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    schemas: dict[str, Any] = schema["components"]["schemas"]
    shape = ErrorResponse.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= shape.pop("$defs") | {ErrorResponse.__name__: shape}
    for path in schema["paths"].values():
        for operation in path.values():
            if operation["responses"].pop("422", None) is not None and "400" not in operation["responses"]:
                operation["responses"]["400"] = error_response_schema("VALIDATION_ERROR")
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return schema
