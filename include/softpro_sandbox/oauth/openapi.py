"""Describe in OpenAPI the forms and parameters that the OAuth endpoints parse without the framework."""

from typing import Any

from softpro_sandbox.oauth.scopes import SCOPES


def _form(required: dict[str, str], optional: dict[str, str]) -> dict[str, Any]:
    properties = {name: {"type": "string", "description": text} for name, text in (required | optional).items()}
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": schema}}}}


_AUTHORIZE_REQUIRED = {
    "response_type": "code",
    "client_id": "the client's id",
    "redirect_uri": "the address to which the browser returns",
}
_AUTHORIZE_OPTIONAL = {
    "scope": f"separated by spaces, by default all: {' '.join(SCOPES)}",
    "state": "returned unchanged",
    "code_challenge": "PKCE challenge, BASE64URL(SHA256(code_verifier))",
    "code_challenge_method": "S256",
}
_CLIENT = {"client_id": "the client's id", "client_secret": "the client's secret"}

AUTHORIZE_PARAMETERS: dict[str, Any] = {
    "parameters": [
        {
            "name": name,
            "in": "query",
            "required": name in _AUTHORIZE_REQUIRED,
            "description": text,
            "schema": {"type": "string"},
        }
        for name, text in (_AUTHORIZE_REQUIRED | _AUTHORIZE_OPTIONAL).items()
    ]
}
CONSENT_FORM = _form(
    _AUTHORIZE_REQUIRED | {"decision": "allow or refuse"},
    _AUTHORIZE_OPTIONAL | {"organization": "organizationId; the first by default"},
)
TOKEN_FORM = _form(
    {"grant_type": "authorization_code or refresh_token"} | _CLIENT,
    {
        "code": "with authorization_code: works once and for 60 s",
        "redirect_uri": "with authorization_code: the same as in the authorization request",
        "code_verifier": "with authorization_code: required when a challenge was sent",
        "refresh_token": "with refresh_token: invalid once it rotates; using it again revokes the whole grant",
    },
)
REVOKE_FORM = _form({"token": "an access or refresh token"} | _CLIENT, {"token_type_hint": "not needed"})
