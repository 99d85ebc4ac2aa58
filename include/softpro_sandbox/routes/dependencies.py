"""Who calls, and whether the grant's scopes allow it."""

from typing import Annotated

from fastapi import Depends, Header, Request, Security
from fastapi.security import OAuth2AuthorizationCodeBearer, SecurityScopes

from softpro_sandbox.errors import ApiError
from softpro_sandbox.oauth.grants import Grant
from softpro_sandbox.oauth.scopes import SCOPES
from softpro_sandbox.response_models import ErrorResponse
from softpro_sandbox.state import SandboxState

_OAUTH = OAuth2AuthorizationCodeBearer(
    authorizationUrl="/oauth/authorize",
    tokenUrl="/oauth/token",
    refreshUrl="/oauth/token",
    scopes=SCOPES,
    scheme_name="oauth2",
    auto_error=False,
)

Responses = dict[int | str, dict[str, object]]


async def get_state(request: Request) -> SandboxState:
    """The sandbox's state."""
    state: SandboxState = request.app.state.sandbox
    return state


async def get_grant(request: Request, needed: SecurityScopes, _token: Annotated[str | None, Depends(_OAUTH)]) -> Grant:
    """The caller's grant, which the gate has found; 403 when a needed scope was not granted.

    The token parameter is there for the OpenAPI description alone.
    """
    grant: Grant = request.state.grant
    missing = [scope for scope in needed.scopes if scope not in grant.scopes]
    if missing:
        raise ApiError(403, f"The grant lacks the scope {' '.join(missing)}.", {"missingScopes": missing})
    return grant


State = Annotated[SandboxState, Depends(get_state)]
AnyGrant = Annotated[Grant, Security(get_grant)]
ReadsTransactions = Annotated[Grant, Security(get_grant, scopes=["read:transactions"])]
WritesTransactions = Annotated[Grant, Security(get_grant, scopes=["write:transactions"])]
ReadsContacts = Annotated[Grant, Security(get_grant, scopes=["read:contacts"])]
WritesContacts = Annotated[Grant, Security(get_grant, scopes=["write:contacts"])]
ReadsDocuments = Annotated[Grant, Security(get_grant, scopes=["read:documents"])]
WritesDocuments = Annotated[Grant, Security(get_grant, scopes=["write:documents"])]
IfMatch = Annotated[str | None, Header(alias="If-Match", description="the ETag of the version to change")]

_MEANINGS = {
    400: "VALIDATION_ERROR",
    401: "AUTHENTICATION_ERROR: no token, or one that is unknown, expired or revoked",
    403: "FORBIDDEN: the grant lacks the scope",
    404: "NOT_FOUND",
    409: "CONFLICT_ERROR: another version stands there now, see `details.current`",
    429: "RATE_LIMIT_ERROR: wait for Retry-After seconds",
    500: "SERVER_ERROR, as any 5xx",
}


def errors(*statuses: int) -> Responses:
    """The error answers of a call for the OpenAPI description; 401, 429 and 5xx can meet any call."""
    return {status: error_response_schema(_MEANINGS[status]) for status in sorted({401, 429, 500, *statuses})}


def error_response_schema(description: str) -> dict[str, object]:
    """An error answer by reference: the framework would work the same model out anew for each of hundreds."""
    reference = {"$ref": f"#/components/schemas/{ErrorResponse.__name__}"}
    return {"description": description, "content": {"application/json": {"schema": reference}}}
