"""Serve the home page."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from softpro_sandbox.html_pages import render_page
from softpro_sandbox.middleware import API_BASE
from softpro_sandbox.routes.control import list_organizations
from softpro_sandbox.routes.dependencies import State
from softpro_sandbox.switches import Switches

router = APIRouter(include_in_schema=False)


@router.get("/")
async def home(state: State, request: Request) -> Response:
    """Show the sandbox's addresses, organizations and switches."""
    current = state.switches.to_json()
    defaults = Switches().to_json()
    switches = [
        {
            "name": field.alias or name,
            "value": current[field.alias or name],
            "changed": current[field.alias or name] != defaults[field.alias or name],
            "meaning": field.description,
        }
        for name, field in Switches.model_fields.items()
    ]
    return render_page(
        "home.html",
        base=str(request.base_url).rstrip("/"),
        api_base=API_BASE,
        seed=state.setup.seed,
        client_id=state.setup.client_id,
        organizations=await list_organizations(state),
        grants=sum(not grant.revoked for grant in state.grants.grants),
        requests=state.stats.requests.total(),
        switches=switches,
    )
