"""Name the path at which Airflow's API server mounts the plugin, and the addresses of this server."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request

from softpro.settings import OAuthSettings, load

URL_PREFIX = "/api/v1/integrations/softpro"


def airflow_root(request: Request) -> str:
    """Return the path below which a proxy serves Airflow itself, empty without one."""
    return str(request.scope.get("root_path", "")).removesuffix(URL_PREFIX)


def public_url(request: Request) -> str:
    """Return the public address of this API, derived from the OAuth redirect URI, which SoftPro also uses."""
    (settings,) = load(OAuthSettings)
    callback = settings.redirect_uri
    return callback.removesuffix("/callback") if callback.endswith("/callback") else str(request.base_url).rstrip("/")


def own_origins(request: Request) -> set[str]:
    """Return the origins of this server's own pages: the request's address, and the public one behind a proxy."""
    public = urlsplit(public_url(request))
    return {f"{request.url.scheme}://{request.url.netloc}", f"{public.scheme}://{public.netloc}"}
