"""Provide the state, the caller's grant and its required scopes to routes."""

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
    """Return the sandbox's state."""
    state: SandboxState = request.app.state.sandbox
    return state


async def get_grant(request: Request, needed: SecurityScopes, _token: Annotated[str | None, Depends(_OAUTH)]) -> Grant:
    """Return the caller's grant, which the middleware found. Raise a 403 when a required scope was not granted.

    The token parameter exists only for the OpenAPI description.
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
    401: "AUTHENTICATION_ERROR: the token is missing, unknown, expired or revoked",
    403: "FORBIDDEN: the grant lacks the scope",
    404: "NOT_FOUND",
    409: "CONFLICT_ERROR: the record has another version now, see `details.current`",
    429: "RATE_LIMIT_ERROR: wait for Retry-After seconds",
    500: "SERVER_ERROR, as any 5xx",
}


def errors(*statuses: int) -> Responses:
    """Return a call's error responses for OpenAPI; 401, 429 and 5xx are part of every call."""
    return {status: error_response_schema(_MEANINGS[status]) for status in sorted({401, 429, 500, *statuses})}


def error_response_schema(description: str) -> dict[str, object]:
    """Return an error response by reference, since the framework would build the same model for every call."""
    reference = {"$ref": f"#/components/schemas/{ErrorResponse.__name__}"}
    return {"description": description, "content": {"application/json": {"schema": reference}}}
