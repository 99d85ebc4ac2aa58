"""Build the ASGI application over a sandbox state."""

from typing import Any

from fastapi import FastAPI

from softpro_sandbox import errors
from softpro_sandbox.connection_faults import Reset, raise_reset
from softpro_sandbox.middleware import API_BASE, ApiMiddleware, OutermostMiddleware
from softpro_sandbox.oauth import routes as oauth
from softpro_sandbox.openapi import DESCRIPTION, describe
from softpro_sandbox.routes import (
    contacts,
    control,
    deletions,
    documents,
    home,
    monitoring,
    parties,
    profile,
    properties,
    statuses,
    transactions,
)
from softpro_sandbox.state import SandboxState


def create_app(state: SandboxState, reset: Reset = raise_reset) -> FastAPI:
    """Create the sandbox as an ASGI application.

    Args:
        state: the records, grants and switches to serve.
        reset: breaks the connection of a request; by default it raises ConnectionResetError.
    """
    app = FastAPI(
        title="SoftPro 360 sandbox",
        version="1",
        description=DESCRIPTION,
        # FastAPI's documentation pages load scripts from the internet.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.sandbox = state
    app.state.reset = reset
    errors.install(app, state.time)
    for resource in (profile, transactions, parties, properties, documents, contacts, statuses, deletions):
        app.include_router(resource.router, prefix=API_BASE)
    for other in (oauth, control, monitoring, home):
        app.include_router(other.router)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    app.add_middleware(ApiMiddleware, state=state, reset=reset)
    app.add_middleware(OutermostMiddleware, state=state)
    return app
