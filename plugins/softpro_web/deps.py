"""Who may: Airflow's auth manager decides. The one file of the web part that imports Airflow.

Reading maps to reading the sync DAG's runs, operating to starting one, configuring to writing Variables: rights that
every auth manager grants alike. A route is closed unless `app` names it as open. What a caller may see is in `callers`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, oauth2_scheme
from fastapi import Depends, HTTPException, Request

from softpro import settings
from softpro.db import access_scopes, call_limit
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
    """Notes whom Airflow takes the caller for, by token or cookie. Raises HTTPException: 401 where there is none, or
    one that has expired; 403 where it was never good."""
    request.state.softpro_user = await get_user(request, None, await bearer_scheme(request))


def _user(
    request: Request,
    _oauth: Annotated[Any, Depends(oauth2_scheme)],  # both only describe the routes
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
    """What Airflow's auth manager counts the user among: teams and role of SimpleAuthManager, roles of FAB.

    FAB's groups are left out: it grants no rights by them either.
    """
    role = getattr(user, "role", None)
    roles = [str(each.name) for each in getattr(user, "roles", ())]
    return [*getattr(user, "teams", ()), *([role] if role else []), *roles]


def _requires(right: str, *, limited: bool = False) -> Callable[..., Principal]:
    def caller(request: Request, user: Annotated[Any, Depends(_user)], where: DatabaseDep, _: Storable) -> Principal:
        """The caller. 403 without the right, 429 for too many runs."""
        _require_same_origin(request)
        if not _is_allowed(user, right):
            raise HTTPException(403, f"Your role may not {right} here")
        name = str(user.get_name())
        with where.connect() as connection:
            seen = access_scopes.organizations(connection, name, _teams(user))
            if limited:
                (allowed,) = settings.load(settings.CallSettings)
                call_limit.count_call(connection, name, allowed.sync_calls)
        return Principal(name, seen)

    return caller


def _require_same_origin(request: Request) -> None:
    """A cookie is sent by any page's request, so one that changes something must show that it is ours."""
    if request.method in SAFE_METHODS or request.headers.get("Authorization", "").lower().startswith("bearer "):
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin", "")
    same_origin = site == "same-origin" if site else bool(origin) and urlsplit(origin).netloc == request.url.netloc
    if not same_origin or CSRF_HEADER not in request.headers:
        raise HTTPException(
            403, f"A change by cookie needs the header {CSRF_HEADER} and a request from this very origin"
        )


def _services() -> Services:
    return services(database())


Reader = Annotated[Principal, Depends(_requires("read"))]
Operator = Annotated[Principal, Depends(_requires("operate"))]
Starter = Annotated[Principal, Depends(_requires("operate", limited=True))]
"""An operator who starts a run: so often a minute, and no more."""
Configurer = Annotated[Principal, Depends(_requires("configure"))]
ServicesDep = Annotated[Services, Depends(_services)]


def airflow_app() -> Any:
    """The running API server's own app: a route's `request.app` is only the plugin's."""
    from airflow.api_fastapi.main import app

    return app
