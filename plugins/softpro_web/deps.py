"""Authenticate callers and check their rights through Airflow's auth manager.

This is the only module of the API that imports Airflow. Every auth manager grants these rights in the same way:

* *read* is the right to read runs of the sync DAG,
* *operate* is the right to start one,
* *configure* is the right to write Variables.

A route requires a login unless `app` lists it as open. `principal` limits the organizations that a caller may see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, oauth2_scheme
from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from softpro import settings
from softpro.db import access_scopes, user_call_limit
from softpro.db.database import Database
from softpro.orchestration.hook import database
from softpro.services import Services, services
from softpro_web.body_validation import Storable
from softpro_web.principal import Principal

SYNC_DAG, REMAP_DAG, PUSH_DAG = "softpro_sync", "softpro_remap", "softpro_write_back"
CSRF_HEADER = "X-Requested-With"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

DatabaseDep = Annotated[Database, Depends(database)]


async def authenticate(request: Request) -> None:
    """Store Airflow's user in the request's state, by token or cookie.

    Raises:
        HTTPException: 401 without a token or cookie, or with an expired one; 403 if it was never valid.
    """
    request.state.softpro_user = await get_user(request, None, await bearer_scheme(request))


def _user(
    request: Request,
    _oauth: Annotated[Any, Depends(oauth2_scheme)],  # both only document the routes in OpenAPI
    _bearer: Annotated[Any, Depends(bearer_scheme)],
) -> Any:
    return request.state.softpro_user


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


def _requires(right: str, *, limited: bool = False) -> Callable[..., Principal]:
    def caller(request: Request, user: Annotated[Any, Depends(_user)], where: DatabaseDep, _: Storable) -> Principal:
        """Return the caller.

        Raises:
            HTTPException: 403 without the right, or for a change by cookie without proof of its origin.
            TooManyCalls: The caller started too many runs within a minute (429).
        """
        _require_same_origin(request)
        if not _is_allowed(user, right):
            raise HTTPException(403, f"Your role lacks the right to {right}")
        name = str(user.get_name())
        with where.connect() as connection:
            seen = access_scopes.organizations(connection, name, _teams(user))
            if limited:
                (allowed,) = settings.load(settings.CallSettings)
                user_call_limit.count_call(connection, name, allowed.sync_calls)
        return Principal(name, seen)

    return caller


def _require_same_origin(request: Request) -> None:
    """Require proof that a change by cookie comes from this server's own pages.

    A browser also sends the cookie with requests of other sites.

    Raises:
        HTTPException: 403 without the proof.
    """
    if request.method in SAFE_METHODS or request.headers.get("Authorization", "").lower().startswith("bearer "):
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin", "")
    same_origin = site == "same-origin" if site else bool(origin) and urlsplit(origin).netloc == request.url.netloc
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
    await run_in_threadpool(_remember, user)


def _remember(user: Any) -> None:
    with database().connect() as connection:
        access_scopes.remember(
            connection, str(user.get_name()), _teams(user), may_configure=_is_allowed(user, "configure")
        )


def _services() -> Services:
    return services(database())


Reader = Annotated[Principal, Depends(_requires("read"))]
Operator = Annotated[Principal, Depends(_requires("operate"))]
Starter = Annotated[Principal, Depends(_requires("operate", limited=True))]
"""An operator who starts a run; the number of runs per minute is limited."""
Configurer = Annotated[Principal, Depends(_requires("configure"))]
ServicesDep = Annotated[Services, Depends(_services)]


def airflow_app() -> Any:
    """Return the app of the running API server. A route's `request.app` is only the plugin's."""
    from airflow.api_fastapi.main import app

    return app
