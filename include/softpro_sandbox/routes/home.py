"""The page that says what this is."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from softpro_sandbox.html_pages import page
from softpro_sandbox.middleware import API_BASE
from softpro_sandbox.routes.control import list_organizations
from softpro_sandbox.routes.dependencies import TheWorld
from softpro_sandbox.switches import Switches

router = APIRouter(include_in_schema=False)


@router.get("/")
async def home(world: TheWorld, request: Request) -> Response:
    """What the sandbox serves, with which records and switches."""
    standing = world.switches.shown()
    usual = Switches().shown()
    switches = [
        {
            "name": field.alias or name,
            "value": standing[field.alias or name],
            "changed": standing[field.alias or name] != usual[field.alias or name],
            "meaning": field.description,
        }
        for name, field in Switches.model_fields.items()
    ]
    return page(
        "home.html",
        base=str(request.base_url).rstrip("/"),
        api_base=API_BASE,
        seed=world.setup.seed,
        client_id=world.setup.client_id,
        organizations=await list_organizations(world),
        grants=sum(not grant.revoked for grant in world.grants.grants),
        requests=world.stats.requests.total(),
        switches=switches,
    )
