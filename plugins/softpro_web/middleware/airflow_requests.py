"""Keep the teams and rights of users who start runs or answer questions through Airflow's own API.

The tasks that carry these out can't ask Airflow's auth manager. See `softpro.orchestration.authority`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from softpro.errors import SoftProError
from softpro_web.responses import failure

ACTIONS = re.compile(r"/api/v2/.*(dagRuns|backfills|hitlDetails|assets|clearTaskInstances|taskInstances)")
"""The paths of Airflow's API that start runs, run tasks again, or answer questions."""
OWN_DAGS = "/dags/softpro_"


class AirflowRequests:
    """ASGI middleware of Airflow's own app. It calls `remember` before a request that starts or answers something."""

    def __init__(self, app: ASGIApp, remember: Callable[[Request], Awaitable[None]]) -> None:
        self.app = app
        self._remember = remember

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("POST", "PATCH") and ACTIONS.search(scope["path"]):
            try:
                await self._remember(Request(scope))
            except SoftProError as failed:
                if OWN_DAGS in scope["path"]:  # without the user's confinement, nothing of the product may start
                    await failure(failed)(scope, receive, send)
                    return
        await self.app(scope, receive, send)
