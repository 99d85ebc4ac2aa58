"""Serve the OAuth endpoints: consent page, token, revocation (contract, OAuth 2.0)."""

import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from softpro_sandbox.connection_faults import ResetResponse
from softpro_sandbox.html_pages import render_page
from softpro_sandbox.oauth.authorize import (
    PARAMETERS,
    AuthorizationRequest,
    RefusedRequest,
    UntrustedRequest,
    read_request,
    redirect_to,
)
from softpro_sandbox.oauth.grants import InvalidGrant, Lifetimes, Tokens
from softpro_sandbox.oauth.openapi import AUTHORIZE_PARAMETERS, CONSENT_FORM, REVOKE_FORM, TOKEN_FORM
from softpro_sandbox.oauth.scopes import SCOPES
from softpro_sandbox.response_models import TokenError, TokenResponse
from softpro_sandbox.routes.dependencies import State
from softpro_sandbox.state import EntityType, SandboxState

router = APIRouter(prefix="/oauth", tags=["oauth"])

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_REDIRECTS: dict[int | str, dict[str, Any]] = {
    303: {"description": "to redirect_uri, with `code` and `state`, or `error`, `error_description` and `state`"},
    400: {"description": "the client or the redirect URI is unknown: a page, never a redirect"},
}


class TokenRefusal(Exception):
    """An error of RFC 6749 §5.2."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


@router.get("/authorize", response_class=Response, responses=_REDIRECTS, openapi_extra=AUTHORIZE_PARAMETERS)
async def show_consent(state: State, request: Request) -> Response:
    """Show a page that asks for consent. Its form carries the parameters of the request."""
    authorization = _read(state, request.query_params)
    if isinstance(authorization, Response):
        return authorization
    organizations = [
        {
            "id": each.organization_id,
            "name": each.name,
            "transactions": len(each.stores[EntityType.TRANSACTION].latest),
            "contacts": len(each.stores[EntityType.CONTACT].latest),
        }
        for each in state.organizations.values()
    ]
    hidden = {name: request.query_params[name] for name in PARAMETERS if name in request.query_params}
    return render_page(
        "consent.html",
        client_id=authorization.client_id,
        redirect_uri=authorization.redirect_uri,
        scopes=[(scope, SCOPES[scope]) for scope in authorization.scopes],
        organizations=organizations,
        hidden=hidden,
    )


@router.post("/authorize", response_class=Response, responses=_REDIRECTS, openapi_extra=CONSENT_FORM)
async def decide_consent(state: State, request: Request) -> Response:
    """Read the decision of the consent page and redirect the browser to the client."""
    form = dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
    authorization = _read(state, form)
    if isinstance(authorization, Response):
        return authorization
    organization_id = form.get("organization") or next(iter(state.organizations))
    if organization_id not in state.organizations:
        return render_page("problem.html", 400, problem="The organization does not exist.")
    if form.get("decision") not in ("allow", "refuse"):
        return render_page("problem.html", 400, problem="The decision must be allow or refuse.")
    if form["decision"] == "refuse" or state.switches.refuse_consent:
        content = {"error": "access_denied", "error_description": "The user refused access."}
    else:
        content = {"code": state.grants.issue_code(organization_id, authorization, state.clock())}
    return RedirectResponse(
        redirect_to(authorization.redirect_uri, **content, state=authorization.state), 303, _NO_STORE
    )


@router.post(
    "/token",
    response_model=TokenResponse,
    responses={400: {"model": TokenError}, 401: {"model": TokenError, "description": "invalid_client"}},
    openapi_extra=TOKEN_FORM,
)
async def issue_tokens(state: State, request: Request) -> Response:
    """Issue tokens for a code or a refresh token.

    Calls are not idempotent: a call whose response was lost may have rotated the refresh token.
    """
    try:
        form = _client_form(state, await _form(request))
        tokens = _tokens(state, form)
    except TokenRefusal as refusal:
        return _error_response(refusal)
    if state.fault_draws.random() < state.switches.token_faults:
        state.stats.lost_token_answers += 1
        return ResetResponse(request.app.state.reset)
    content: dict[str, object] = {"access_token": tokens.access_token}
    if tokens.refresh_token is not None:
        content["refresh_token"] = tokens.refresh_token
    content |= {"token_type": "Bearer", "expires_in": tokens.expires_in, "scope": " ".join(tokens.scopes)}
    return Response(msgspec.json.encode(content), 200, _NO_STORE, "application/json")


@router.post(
    "/revoke",
    response_class=Response,
    responses={400: {"model": TokenError}, 401: {"model": TokenError, "description": "invalid_client"}},
    openapi_extra=REVOKE_FORM,
)
async def revoke_token(state: State, request: Request) -> Response:
    """Revoke a token (RFC 7009): 200 even for an unknown one. A refresh token revokes its whole grant."""
    try:
        form = _client_form(state, await _form(request))
        token = _require(form, "token")
    except TokenRefusal as refusal:
        return _error_response(refusal)
    state.grants.revoke_token(token)
    return Response(status_code=200, headers=_NO_STORE)


def _read(state: SandboxState, params: Mapping[str, str]) -> AuthorizationRequest | Response:
    """Return the authorization request, or the response that reports its error."""
    try:
        return read_request(params, state.setup.client_id, state.setup.redirect_uris)
    except UntrustedRequest as problem:
        return render_page("problem.html", 400, problem=str(problem))
    except RefusedRequest as refused:
        return RedirectResponse(refused.location, 303, _NO_STORE)


async def _form(request: Request) -> dict[str, str]:
    """Parse the form of a token request; reject repeated parameters (RFC 6749 §3.2)."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise TokenRefusal("invalid_request", "the body must be application/x-www-form-urlencoded")
    pairs = parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True)
    form = dict(pairs)
    if len(form) != len(pairs):
        raise TokenRefusal("invalid_request", "a parameter is repeated")
    # A parameter without a value counts as missing (§3.2).
    return {name: value for name, value in form.items() if value}


def _client_form(state: SandboxState, form: dict[str, str]) -> dict[str, str]:
    """Return the form if the client's id and secret are right."""
    sent = f"{form.get('client_id', '')}\n{form.get('client_secret', '')}"
    if not hmac.compare_digest(sent.encode(), f"{state.setup.client_id}\n{state.setup.client_secret}".encode()):
        raise TokenRefusal("invalid_client", "client_id or client_secret is wrong", 401)
    return form


def _tokens(state: SandboxState, form: Mapping[str, str]) -> Tokens:
    grant_type = _require(form, "grant_type")
    now = state.clock()
    lifetimes = Lifetimes(state.switches.access_token_lifetime, state.switches.refresh_token_lifetime)
    if grant_type == "authorization_code":
        code, redirect_uri = _require(form, "code"), _require(form, "redirect_uri")
        try:
            return state.grants.redeem(code, redirect_uri, form.get("code_verifier"), now, lifetimes)
        except InvalidGrant as error:
            state.stats.reused_codes += error.reused
            raise TokenRefusal("invalid_grant", str(error)) from None
    if grant_type == "refresh_token":
        token = _require(form, "refresh_token")
        try:
            tokens = state.grants.refresh(token, now, lifetimes, rotate=state.switches.rotate_refresh)
        except InvalidGrant as error:
            state.stats.dead_refresh_tokens += error.reused
            raise TokenRefusal("invalid_grant", str(error)) from None
        state.stats.refreshes += 1
        return tokens
    raise TokenRefusal("unsupported_grant_type", "grant_type must be authorization_code or refresh_token")


def _require(form: Mapping[str, str], name: str) -> str:
    if name not in form:
        raise TokenRefusal("invalid_request", f"{name} is missing")
    return form[name]


def _error_response(refusal: TokenRefusal) -> Response:
    body = {"error": refusal.error, "error_description": refusal.description}
    return Response(msgspec.json.encode(body), refusal.status, _NO_STORE, "application/json")
