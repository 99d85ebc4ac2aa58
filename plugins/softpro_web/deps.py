"""Authenticate callers and check their rights through Airflow's auth manager.

This is the only module of the API that imports Airflow. Every auth manager grants these rights in the same way:

* *read* is the right to read runs of the sync DAG,
* *operate* is the right to start one,
* *configure* is the right to write Variables.

A route declares its right by its caller parameter, and the admission middleware checks it. `principal` limits the
organizations that a caller may see.
"""

from __future__ import annotations

from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, oauth2_scheme
from fastapi import Depends, HTTPException, Request

from softpro import settings
from softpro.db import access_scopes, user_call_limit
from softpro.db.database import Database
from softpro.services import Services, services
from softpro_web.database import web_database
from softpro_web.paths import own_origins
from softpro_web.principal import Principal
from softpro_web.routing import Right
from softpro_web.threads import in_thread

SYNC_DAG, REMAP_DAG, PUSH_DAG = "softpro_sync", "softpro_remap", "softpro_write_back"
CSRF_HEADER = "X-Requested-With"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def _is_allowed(user: Any, right: str) -> bool:
    manager = get_auth_manager()
    if right == "configure":
        return manager.is_authorized_variable(method="PUT", user=user)
    return manager.is_authorized_dag(
        method="GET" if right == "read" else "POST",
        access_entity=DagAccessEntity.RUN,
        details=DagDetails(id=SYNC_DAG),
        user=user,
    )


def _teams(user: Any) -> list[str]:
    """Return the teams and roles of a user: teams and role of SimpleAuthManager, roles of FAB.

    FAB's groups are omitted, because FAB grants no rights by them.
    """
    role = getattr(user, "role", None)
    roles = [str(each.name) for each in getattr(user, "roles", ())]
    return [*getattr(user, "teams", ()), *([role] if role else []), *roles]


class _Caller(Right):
    """The dependency that declares a route's right, and returns the caller who was admitted."""

    async def __call__(
        self,
        request: Request,
        _oauth: Annotated[Any, Depends(oauth2_scheme)],  # both only document the routes in OpenAPI
        _bearer: Annotated[Any, Depends(bearer_scheme)],
    ) -> Principal:
        principal: Principal = request.state.softpro_principal
        return principal


async def admit(request: Request, right: Right | None) -> str:
    """Check the caller's login and right, before any of the body is read.

    Store the caller in the request's state, and return their name.

    Raises:
        HTTPException: 401 without a login; 403 without the right, or for a change by cookie without proof of its
            origin.
        TooManyCalls: The caller started too many runs within a minute (429).
    """
    bearer = await bearer_scheme(request)
    user = await get_user(request, None, bearer)
    if right is not None:
        if bearer is None:  # the cookie names the user, also beside `Authorization: Bearer` without a token
            _require_same_origin(request)
        request.state.softpro_principal = await in_thread(_principal, user, right)
    return str(user.get_name())


def _principal(user: Any, right: Right) -> Principal:
    if not _is_allowed(user, right.name):
        raise HTTPException(403, f"Your role lacks the right to {right.name}")
    name = str(user.get_name())
    with web_database().connect() as connection:
        seen = access_scopes.organizations(connection, name, _teams(user))
        if right.counted:
            (allowed,) = settings.load(settings.CallSettings)
            user_call_limit.count_call(connection, name, allowed.sync_calls)
    return Principal(name, seen)


def _require_same_origin(request: Request) -> None:
    """Require proof that a change by cookie comes from this server's own pages.

    A browser also sends the cookie with requests of other sites.

    Raises:
        HTTPException: 403 without the proof.
    """
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    same_origin = site == "same-origin" if site else request.headers.get("Origin") in own_origins(request)
    if not same_origin or CSRF_HEADER not in request.headers:
        raise HTTPException(
            403, f"A change by cookie requires the header {CSRF_HEADER} and a request from the same origin"
        )


async def remember(request: Request) -> None:
    """Keep the teams and rights of the user of a request to Airflow's own API.

    A request without a valid credential is left to Airflow, which refuses it.
    """
    try:
        user = await get_user(request, None, await bearer_scheme(request))
    except HTTPException:
        return
    await in_thread(lambda: _remember(user))


def _remember(user: Any) -> None:
    with web_database().connect() as connection:
        access_scopes.remember(
            connection, str(user.get_name()), _teams(user), may_configure=_is_allowed(user, "configure")
        )


async def _database() -> Database:
    return await in_thread(web_database)


async def _services() -> Services:
    return await in_thread(lambda: services(web_database()))


DatabaseDep = Annotated[Database, Depends(_database)]
Reader = Annotated[Principal, Depends(_Caller("read"))]
Operator = Annotated[Principal, Depends(_Caller("operate"))]
Starter = Annotated[Principal, Depends(_Caller("operate", counted=True))]
"""An operator who starts a run or another expensive work; the number per minute is limited."""
Configurer = Annotated[Principal, Depends(_Caller("configure"))]
ServicesDep = Annotated[Services, Depends(_services)]


def airflow_app() -> Any:
    """Return the app of the running API server. A route's `request.app` is only the plugin's."""
    from airflow.api_fastapi.main import app

    return app
