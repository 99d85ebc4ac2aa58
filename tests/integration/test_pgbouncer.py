"""Reach the database through PgBouncer."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from softpro.db.database import Database
from softpro_demo.stack import free_port

from ..support.databases import LOADER, execute, lasting_directory, one
from ..support.product import command, connect_acme, environment, sync
from ..support.sandbox import Sandbox

PGBOUNCER = shutil.which("pgbouncer") or "pgbouncer is not installed: apt-get install pgbouncer"


@contextmanager
def bouncer(database: Database, pool_mode: str) -> Iterator[Database]:
    """Run PgBouncer in front of the database for the block, and yield the database through it."""
    parameters = conninfo_to_dict(database.conninfo)
    home, port = lasting_directory(), free_port(0)
    users = home / "users"
    users.write_text(f'"postgres" ""\n"{LOADER}" ""\n')
    configured = home / "pgbouncer.ini"
    configured.write_text(
        f"""
        [databases]
        * = host={_reachable(home, str(parameters["host"]))}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = trust
        auth_file = {users}
        pool_mode = {pool_mode}
        logfile = {home / "log"}
        """.replace("\n        ", "\n")
    )
    # It refuses to run as root, and only the server's user may enter the socket's directory.
    owner = Path(str(parameters["host"])).stat()
    for path in (home, users, configured):
        os.chown(path, owner.st_uid, owner.st_gid)
    process = subprocess.Popen(
        [PGBOUNCER, str(configured)], stderr=subprocess.DEVNULL, user=owner.st_uid, group=owner.st_gid
    )
    try:
        through = Database(make_conninfo(database.conninfo, host="127.0.0.1", port=port))
        _wait_until_ready(through, home / "log")
        yield through
    finally:
        process.terminate()
        process.wait()


def _reachable(home: Path, socket_directory: str) -> str:
    """Return a link to the directory of the server's socket, since PgBouncer's syntax has no quotes for blanks."""
    link = home / "s"
    link.symlink_to(socket_directory)
    return str(link)


def _wait_until_ready(database: Database, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return psycopg.connect(database.conninfo).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def test_the_product_works_through_pgbouncer_with_sessions(database: Database, sandbox: Sandbox) -> None:
    execute(database, "alter role softpro_loader set datestyle to 'German'")
    try:
        with bouncer(database, "session") as through:
            settings = environment(through, sandbox)
            migrated = command(settings, "migrate")
            assert (migrated.code, migrated.err) == (0, "")
            services, acme = connect_acme(through, sandbox)
            assert sync(services, acme).status == "COMPLETED"
            assert one(through, "select count(*) from roi.transactions") > 0
    finally:
        execute(database, "alter role softpro_loader reset datestyle")


def test_migrate_refuses_a_pooler_that_shares_sessions(database: Database, sandbox: Sandbox) -> None:
    with bouncer(database, "transaction") as through:
        refused = command(environment(through, sandbox), "migrate")
    assert refused.code == 1
    assert "gives a session to a client for a transaction only, such as PgBouncer" in refused.err
