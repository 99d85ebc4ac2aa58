"""Registers the web part with Airflow's API server. Every component imports this file, so it imports nothing heavy."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin


class SoftProPlugin(AirflowPlugin):
    """Serves OAuth connect and callback, mappings, sync and logs below `/api/v1/integrations/softpro`."""

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
        from softpro_web.app import create_app
        from softpro_web.paths import URL_PREFIX

        return [{"app": create_app(), "url_prefix": URL_PREFIX, "name": "SoftPro 360"}]
