"""Serve in one process with one worker: bind, announce the addresses in one line, stop cleanly."""

import json
import signal
import socket
import sys
from types import FrameType

import uvicorn

from softpro_sandbox.app import create_app
from softpro_sandbox.connection_faults import Connections
from softpro_sandbox.middleware import API_BASE
from softpro_sandbox.state import SandboxState


class AnnouncingServer(uvicorn.Server):
    """A server that prints a line once it accepts connections."""

    def __init__(self, config: uvicorn.Config, line: str) -> None:
        super().__init__(config)
        self.line = line

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the line."""
        await super().startup(sockets)
        print(self.line, flush=True)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to host and port; port 0 takes any free port. Raise OSError when binding fails."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def announcement(url: str, state: SandboxState) -> str:
    """Return the line of JSON that gives the starting program every address."""
    return json.dumps(
        {
            "url": url,
            "apiBaseUrl": f"{url}{API_BASE}",
            "authorizeUrl": f"{url}/oauth/authorize",
            "tokenUrl": f"{url}/oauth/token",
            "revokeUrl": f"{url}/oauth/revoke",
            "openapi": f"{url}/openapi.json",
            "clientId": state.setup.client_id,
            "organizationIds": list(state.organizations),
        }
    )


def public_url(listener: socket.socket) -> str:
    """Return the URL of a bound socket; an address for every interface is replaced by loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - translated, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def stop_on_signals() -> None:
    """Make SIGTERM and SIGINT end the process with 0; uvicorn raises them again after its shutdown."""

    def exit_cleanly(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, exit_cleanly)
    signal.signal(signal.SIGINT, exit_cleanly)


def serve(state: SandboxState, listener: socket.socket) -> None:
    """Serve a state on a bound socket until a signal arrives."""
    connections = Connections()
    config = uvicorn.Config(
        create_app(state, connections.reset),
        http=connections.protocol(),
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        # The state sets the date, and the client's address must be the connection's own.
        date_header=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    url = public_url(listener)
    print(f"SoftPro 360 sandbox at {url}", file=sys.stderr)
    AnnouncingServer(config, announcement(url, state)).run([listener])
