"""Run the sandbox from the command line: `python -m softpro_sandbox`."""

import json
import sys
import time
from typing import Annotated

import typer
from pydantic import ValidationError

from softpro_sandbox.server import bind, serve, stop_on_signals
from softpro_sandbox.state import Setup, create_state
from softpro_sandbox.switches import Switches, parse_settings

_SWITCHES = "\n\n".join(
    f"  {field.alias}={json.dumps(field.default)}: {field.description}" for field in Switches.model_fields.values()
)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(epilog=f"Switches for --set, with their defaults:\n\n{_SWITCHES}")
def run(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free port.")] = 8360,
    seed: Annotated[int, typer.Option(help="The same seed and sizes give byte-equal records.")] = 1,
    organizations: Annotated[int, typer.Option(min=1, max=1000, help="Organizations to choose from at consent.")] = 1,
    transactions: Annotated[int, typer.Option(min=0, help="Transactions of each organization.")] = 1000,
    contacts: Annotated[int, typer.Option(min=0, help="Contacts of each organization.")] = 400,
    client_id: Annotated[str, typer.Option(help="The OAuth client that may connect.")] = Setup.client_id,
    client_secret: Annotated[
        str, typer.Option(envvar="SANDBOX_CLIENT_SECRET", help="Its secret; other users can see a command line.")
    ] = Setup.client_secret,
    redirect_uri: Annotated[
        list[str] | None,
        typer.Option(help="Allow this exact redirect URI; repeatable. Without it, allow any on loopback."),
    ] = None,
    rate_limit: Annotated[int | None, typer.Option(min=1, help="Requests in any 60 s, per grant. Default 100.")] = None,
    lag: Annotated[
        float | None, typer.Option(min=0, help="Longest delay in s until a change is visible. Default 0.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a switch; repeatable, see below.")
    ] = None,
) -> None:
    """Serve a local SoftPro 360 from memory: OAuth, profile, transactions and their parts, contacts, webhooks.

    Once it accepts connections, it prints one line of JSON with its addresses to standard output.
    All other output goes to standard error.
    Use GET and PATCH /sandbox/settings to read and set the switches while it runs.
    """
    options = {"rateLimit": rate_limit, "lag": lag}
    try:
        switches = Switches().changed(
            {**parse_settings(settings or []), **{name: value for name, value in options.items() if value is not None}}
        )
    except ValidationError as error:
        problems = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise typer.BadParameter(problems, param_hint="--set") from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from None
    stop_on_signals()
    try:
        listener = bind(host, port)
    except OSError as error:
        print(f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port.", file=sys.stderr)
        raise typer.Exit(1) from None
    setup = Setup(
        seed, organizations, transactions, contacts, client_id, client_secret, tuple(redirect_uri or ()), switches
    )
    serve(create_state(setup, time.time), listener)


if __name__ == "__main__":
    app(prog_name="python -m softpro_sandbox")
