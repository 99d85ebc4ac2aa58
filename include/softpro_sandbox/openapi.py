"""The OpenAPI description: the contract's calls as they truly answer."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from softpro_sandbox.response_models import ErrorResponse
from softpro_sandbox.routes.dependencies import error_response_schema

DESCRIPTION = """\
A local SoftPro 360: OAuth 2.0, profile, transactions with their parties, property and documents, contacts and
statuses, with made-up records.

* **Rate limit**: `rateLimit` requests in any 60 s per grant, 100 unless switched; refused requests count too.
  Every answer to a grant carries `X-RateLimit-Limit` and `X-RateLimit-Remaining`, a 429 `Retry-After` in seconds.
* **Lists are live**: what changes while being paged moves. Many records can share one `updatedAt`. A change can
  surface late, each record by its own delay.
* **Errors** come in one envelope; a proxy in front may answer HTML, nothing, or half a body instead.
* **Webhooks** are sent for every change once `PUT /sandbox/webhooks` has said where to.
* Calls under `/sandbox` set switches and change records; they are no part of SoftPro 360's API.
"""


def describe(app: FastAPI) -> dict[str, Any]:
    """The description, with FastAPI's own 422 replaced by the 400 that is really answered."""
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
