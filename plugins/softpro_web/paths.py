"""Name the path at which Airflow's API server mounts the plugin."""

from __future__ import annotations

from fastapi import Request

URL_PREFIX = "/api/v1/integrations/softpro"


def airflow_root(request: Request) -> str:
    """Return the path below which a proxy serves Airflow itself, empty without one."""
    return str(request.scope.get("root_path", "")).removesuffix(URL_PREFIX)
