"""Make Airflow's login and database as AIRFLOW__DATABASE__SQL_ALCHEMY_CONN names them, for docker-compose.yaml.

Connects by SOFTPRO_MIGRATE_DATABASE_URL, whose login may be a superuser. A database that this login made before is
handed over, so that Airflow needs no superuser. Running it again changes nothing.
"""

from __future__ import annotations

import os

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import make_url

SELECT_TO_HAND_OVER = """
select case relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind,
       format('%I.%I', nspname, relname) as name
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where nspname = 'public' and relkind in ('r', 'p', 'v', 'S') and relowner = session_user::regrole
  -- the sequence of a column follows its table
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
                  and relkind = 'S' and d.deptype in ('a', 'i'))
union all
select 'type', format('%I.%I', nspname, typname)
from pg_type t
join pg_namespace n on n.oid = t.typnamespace
where nspname = 'public' and typtype = 'e' and typowner = session_user::regrole
"""


def main() -> None:
    """Create what is missing, and hand over what the administrator owns."""
    airflow = make_url(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    login, database = sql.Identifier(str(airflow.username)), sql.Identifier(str(airflow.database))
    administrator = os.environ["SOFTPRO_MIGRATE_DATABASE_URL"]
    with psycopg.connect(administrator, autocommit=True) as connection:
        if not connection.execute("select from pg_roles where rolname = %s", [airflow.username]).rowcount:
            verifier = connection.pgconn.encrypt_password(
                str(airflow.password).encode(), str(airflow.username).encode(), b"scram-sha-256"
            )
            connection.execute(
                sql.SQL("create role {} login password {}").format(login, sql.Literal(verifier.decode()))
            )
        if not connection.execute("select from pg_database where datname = %s", [airflow.database]).rowcount:
            connection.execute(sql.SQL("create database {}").format(database))
        connection.execute(sql.SQL("alter database {} owner to {}").format(database, login))
        connection.execute(sql.SQL("revoke connect, temporary on database {} from public").format(database))
    with psycopg.connect(make_conninfo(administrator, dbname=airflow.database)) as connection:
        for kind, name in connection.execute(SELECT_TO_HAND_OVER).fetchall():
            connection.execute(
                sql.SQL("alter {} {} owner to {}").format(sql.SQL(kind), sql.SQL(name), login)  # quoted by format
            )


if __name__ == "__main__":
    main()
