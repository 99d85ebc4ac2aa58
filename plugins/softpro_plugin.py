"""Register the HTTP API with Airflow's API server.

Every component of Airflow imports this file, so it imports nothing heavy at the top.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin


class SoftProPlugin(AirflowPlugin):
    """The plugin that serves the HTTP API below `/api/v1/integrations/softpro`."""

    name = "softpro"
    external_views = [  # noqa: RUF012 - as Airflow declares it
        {
            "name": "SoftPro 360 API",
            "href": "/api/v1/integrations/softpro/docs",
            "url_route": "softpro-api",
            "destination": "nav",
        }
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the app and its mount point, created on first use."""
        from softpro_web.app import create_app
        from softpro_web.paths import URL_PREFIX

        return [{"app": create_app(), "url_prefix": URL_PREFIX, "name": "SoftPro 360"}]

    @cached_property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the middleware of Airflow's own app, created on first use."""
        from softpro_web.deps import remember
        from softpro_web.middleware.airflow_requests import AirflowRequests

        return [{"middleware": AirflowRequests, "kwargs": {"remember": remember}, "name": "SoftPro 360"}]
