"""Kill PostgreSQL: the vendor's window then counts as full, so that its limit is kept (promise 6)."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from softpro.db import embedded
from softpro.errors import BudgetExhausted
from softpro.softpro360.budget import Budget

from ..support.databases import lasting_directory, one

HOLD, WINDOW = 1.0, 2.0

ASK_AND_CRASH = """
import sys
from datetime import timedelta
from pathlib import Path
from softpro.db import embedded, integrations
from softpro.db.encryption import Vault
from softpro.db.migrations import migrate
from softpro.softpro360.budget import Budget
database = embedded.start(Path(sys.argv[1]))
migrate(database)
with database.connect() as connection:
    acme = integrations.ensure(
        connection, Vault((b"k" * 32,)), "acme",
        client_id="client", client_secret="a secret", environment="SANDBOX", sync_frequency=300,
    )
    budget = Budget(connection, acme.id, 100, timedelta(seconds={window}), 0.0, False)
    for _ in range(3):
        budget.settle(budget.take({hold}, 0), {{}}, None)
    connection.execute("checkpoint")
    print(acme.id, flush=True)
    input()
"""


def test_after_the_server_was_killed_the_window_counts_as_full() -> None:
    directory = lasting_directory() / "data"
    code = ASK_AND_CRASH.format(window=WINDOW, hold=HOLD)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acme = UUID(process.stdout.readline().strip())
        kill_server(directory)
        process.kill()

    database = embedded.start(directory)

    assert one(database, "select count(*) from softpro.budget_requests") == 0
    with database.connect() as connection:
        budget = Budget(connection, acme, 100, timedelta(seconds=WINDOW), 0.0, False)
        began = time.monotonic()
        with pytest.raises(BudgetExhausted):
            budget.take(HOLD, 0)
        budget.take(HOLD, None)
        assert HOLD + WINDOW <= time.monotonic() - began < 2 * (HOLD + WINDOW)
        budget.take(HOLD, 0)  # afterwards the limit is usable as before


def kill_server(directory: Path) -> None:
    """Kill the server and all its processes (SIGKILL), as when its host dies."""
    server = psutil.Process(int((directory / "postmaster.pid").read_text(encoding="utf-8").split()[0]))
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it ended already, or with the server
            process.kill()
    psutil.wait_procs(processes, timeout=10)
