"""Serve the profile of a token's user."""

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from softpro_sandbox.response_models import Profile
from softpro_sandbox.routes.dependencies import AnyGrant, State, errors

router = APIRouter(prefix="/user", tags=["profile"])


@router.get("/profile", response_model=Profile, responses=errors())
async def get_profile(state: State, grant: AnyGrant) -> Response:
    """Return the user and organization of the grant; 200 when the token is valid."""
    organization = state.organizations[grant.organization_id]
    profile = {
        "userId": organization.user_id,
        "organizationId": organization.organization_id,
        "email": organization.email,
    }
    return Response(msgspec.json.encode(profile), media_type="application/json")
