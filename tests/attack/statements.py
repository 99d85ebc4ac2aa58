"""List statements by which a login of the database could gain more than its rights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..support.database_logins import TRIGGER_FUNCTIONS, forged_table

ON_TABLES = {
    "select": "select * from {table}",
    "select a row": "select t::text from {table} t",
    "count": "select count(*) from {table}",
    "cursor": "begin; declare c cursor for table {table}; fetch all from c",
    "copy out": "copy {table} to stdout",
    "insert": "insert into {table} default values",
    "insert own": "insert into {table} select * from {table}",
    "update": "update {table} set organization_id = 'confined-org'",
    "delete": "delete from {table}",
    "merge": "merge into {table} t using (values (1)) v (a) on true when matched then delete",
    "truncate": "truncate {table} cascade",
    "lock": "begin; lock table {table} in access exclusive mode",
    "select for update": "select * from {table} for update",
    "drop": "drop table {table} cascade",
    "add a column": "alter table {table} add column forged text",
    "disable triggers": "alter table {table} disable trigger all",
    "enable row security": "alter table {table} enable row level security",
    "take ownership": "alter table {table} owner to {login}",
    "grant": "grant all on {table} to {login}",
    "trigger": "create trigger forged before update on {table} for each row execute function softpro.editor()",
    "rule": "create rule forged as on update to {table} do instead nothing",
    "index": "create index forged on {table} ((1))",
    "policy": "create policy forged on {table} using (true)",
    "comment": "comment on table {table} is 'forged'",
    "view": "create temporary view forged as table {table}; select * from forged",
    "inherit": "create temporary table forged () inherits ({table}); select * from forged",
    "foreign key": "create temporary table forged (id uuid references {table})",
    "statistics": "create statistics forged on organization_id, id from {table}",
    "publication": "create publication forged for table {table}",
    "vacuum": "vacuum full {table}",
    "cluster": "cluster {table}",
    "security label": "security label on table {table} is 'forged'",
}
READS = ("select", "select a row", "count", "cursor", "copy out", "view")
EDITS = ("insert", "insert own", "update", "delete", "merge", "truncate", "lock", "select for update")

ON_FUNCTIONS = {
    "execute": "select {name}({nulls})",
    "in a query": "select f from (values (1)) v (a) cross join lateral (select {name}({nulls}) as f) l",
    "own function": "create function pg_temp.forged() returns text language sql as $$ select {name}({nulls})::text $$; "
    "select pg_temp.forged()",
    "replace": "create or replace function {signature} returns trigger language plpgsql as 'begin return null; end'",
    "drop": "drop function {signature} cascade",
    "alter": "alter function {signature} security invoker",
    "search path": "alter function {signature} set search_path = pg_temp",
    "owner": "alter function {signature} owner to {login}",
    "grant": "grant execute on function {signature} to {login}",
    "default of a column": "create temporary table forged (a text default {name}({nulls})::text); "
    "insert into forged default values",
    "check": "create temporary table forged (a int check ({name}({nulls}) is null)); insert into forged values (1)",
    "index": "create temporary table forged (a int); create index on forged (({name}({nulls})))",
    "domain": "create domain pg_temp.forged as text check ({name}({nulls}) is null); select 'a'::pg_temp.forged",
}
ON_ROLES = {
    "set role": "set role {role}",
    "session": "set session authorization {role}",
    "become a member": "grant {role} to {login}",
    "become a member with admin": "grant {role} to {login} with admin option, inherit true, set true",
    "give own rights": "reassign owned by {role} to {login}",
    "drop its objects": "drop owned by {role} cascade",
    "password": "alter role {role} password 'forged'",
    "rename": "alter role {role} rename to forged",
    "setting": "alter role {role} set search_path = pg_temp",
    "drop": "drop role {role}",
    "default rights": "alter default privileges for role {role} grant all on tables to {login}",
}
SETTINGS = (
    "set session_replication_role = replica",
    "set local session_replication_role = replica",
    "select set_config('session_replication_role', 'replica', false)",
    "set allow_system_table_mods = on",
    "set log_statement = 'none'",
    "set lc_messages = '../x'",
    "set dynamic_library_path = '/tmp'",
    "set local_preload_libraries = 'forged'",
    "set jit_provider = 'forged'",
    "set row_security = off; select * from softpro.integrations",
    "alter system set fsync = off",
    "alter system set softpro.embedded = on",
    "alter database postgres set softpro.embedded = on",
    "alter role all set softpro.loading = on",
    "alter role {login} superuser",
    "alter role {login} bypassrls createrole replication",
    "alter role {login} in database postgres set softpro.loading = on; select 1/0",
    "create role forged superuser",
    "create user forged in role softpro_owner",
    "create database forged",
    "create tablespace forged location '/tmp'",
    "load '/tmp/forged.so'",
    "load 'plpgsql'",
    "select pg_reload_conf()",
    "select pg_rotate_logfile()",
    "select pg_switch_wal()",
    "select pg_create_restore_point('forged')",
    "select pg_create_logical_replication_slot('forged', 'test_decoding')",
    "select pg_stat_reset()",
    "select pg_promote()",
    "checkpoint",
)
FILES = (
    "copy (select 1) to program 'touch /tmp/forged'",
    "create temporary table forged (a text); copy forged from program 'id'",
    "create temporary table forged (a text); copy forged from '/etc/passwd'",
    "copy (select 1) to '/tmp/forged'",
    "select pg_read_file('/etc/passwd')",
    "select pg_read_file('pg_hba.conf')",
    "select pg_read_binary_file('global/pg_control')",
    "select pg_ls_dir('/')",
    "select pg_ls_logdir()",
    "select pg_ls_waldir()",
    "select pg_ls_tmpdir()",
    "select pg_stat_file('pg_hba.conf')",
    "select pg_current_logfile(), pg_read_file(pg_current_logfile())",
    "select lo_import('/etc/passwd')",
    "select lo_export(lo_from_bytea(0, 'x'), '/tmp/forged')",
    "create extension dblink",
    "create extension file_fdw",
    "create extension adminpack",
    "create extension pageinspect",
    "create extension plpython3u",
    "create extension pg_stat_statements",
    "create function pg_temp.forged() returns int language c as '/lib/x86_64-linux-gnu/libc.so.6', 'system'",
    "create function pg_temp.forged() returns int language internal as 'pg_read_file'",
    "create function pg_temp.forged() returns int language plpython3u as 'return 1'",
    "create server forged foreign data wrapper postgres_fdw",
    "create foreign data wrapper forged",
    "create subscription forged connection 'host=127.0.0.1' publication forged",
    "create event trigger forged on ddl_command_start execute function softpro.editor()",
    "create language forged handler plpgsql_call_handler",
    "create access method forged type table handler heap_tableam_handler",
)
CATALOGS = (
    "select * from pg_authid",
    "select * from pg_shadow",
    "select * from pg_hba_file_rules",
    "select * from pg_file_settings",
    "select * from pg_statistic",
    "select * from pg_stats where schemaname in ('softpro', 'raw', 'staging')",
    "select * from pg_user_mapping",
    "select * from pg_subscription",
    "select * from pg_largeobject",
    "select query from pg_stat_activity where usename <> current_user and query <> '<insufficient privilege>'",
    "select setting from pg_settings where name like 'softpro.%%'",
    "select current_setting('softpro.user', true), current_setting('softpro.loading', true)",
    "update pg_class set relowner = current_user::regrole where relname = 'integrations'",
    "update pg_proc set proacl = null where proname = 'editor'",
    "update pg_authid set rolsuper = true where rolname = current_user",
    "insert into pg_auth_members select * from pg_auth_members",
    "delete from pg_trigger",
    "update pg_settings set setting = 'replica' where name = 'session_replication_role'",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'softpro_api'",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'softpro_loader' or usename = 'postgres'",
    "select pg_cancel_backend(pid) from pg_stat_activity where usename = 'softpro_api'",
    "select pg_log_backend_memory_contexts(pid) from pg_stat_activity where usename = 'softpro_api'",
)
OBJECTS = (
    "create schema forged",
    "create table softpro.forged (a int)",
    "create table roi.forged (a int)",
    "create table public.forged (a int)",
    "create function softpro.forged() returns int language sql as 'select 1'",
    "create function public.forged() returns int language sql as 'select 1'",
    "create type softpro.forged as enum ('a')",
    "create domain softpro.forged as text",
    "create operator public.=== (leftarg = text, rightarg = text, function = texteq)",
    "create cast (text as int) with inout as implicit",
    "create cast (softpro.organization as uuid) without function",
    "create cast (uuid as bytea) without function as implicit",
    "drop schema softpro cascade",
    "alter schema softpro owner to {login}",
    "alter schema roi rename to forged",
    "grant usage on schema raw to {login}",
    "alter domain softpro.organization drop constraint organization_check",
    "alter type softpro.organization owner to {login}",
    "drop view roi.contacts_versions",
    "create or replace view roi.contacts_versions as select 1",
    "alter view roi.contacts_versions set (security_invoker = off)",
    "select nextval('softpro.outbox_id_seq')",
    "select setval('softpro.outbox_id_seq', 1)",
    "alter sequence softpro.audit_log_id_seq restart",
    "select currval('softpro.audit_log_id_seq')",
    "create function pg_temp.leak(anyelement) returns boolean language plpgsql cost 0.0001 as "
    "$$ begin raise notice '%%', $1; return true; end $$; select * from softpro.integrations t where pg_temp.leak(t)",
    "create temporary table integrations as select 1 as id; set search_path = pg_temp, softpro; "
    "select * from softpro.integrations",
    "create function pg_temp.editor() returns text language sql as $$ select 'forged' $$; "
    "set search_path = pg_temp, softpro; select softpro.editor()",
    "do $$ begin execute 'select * from softpro.integrations'; end $$",
    "do $$ begin execute 'set role softpro_owner'; execute 'delete from softpro.integrations'; end $$",
    "create function pg_temp.owned() returns void security definer language sql as 'delete from softpro.integrations'; "
    "select pg_temp.owned()",
    "explain analyze select * from softpro.integrations",
    "prepare forged as select * from softpro.integrations; execute forged",
    "select * from softpro.integrations tablesample system (100)",
    "select query_to_xml('select * from softpro.integrations', true, false, '')",
    "select table_to_xml('softpro.integrations', true, false, '')",
    "select schema_to_xml('softpro', true, false, '')",
    "select database_to_xml(true, false, '')",
    "select ts_stat('select client_secret::tsvector from softpro.integrations')",
    "select has_table_privilege('softpro.integrations', 'select')::int / 0",
    "select lo_get(lo_from_bytea(0, 'x')); drop table softpro.integrations",
    "create aggregate pg_temp.forged(text) (sfunc = softpro.decision, stype = text)",
)


@dataclass(frozen=True)
class Statement:
    """One or more statements of a login, separated by semicolons."""

    kind: str
    text: str


def statements(login: str, tables: list[str], functions: dict[str, str], roles: list[str]) -> Iterator[Statement]:
    """Yield every statement that a login has no right to.

    Args:
        login: `reader` or `editor`.
        tables: the product's tables and views.
        functions: the product's functions, each signature with its arguments as nulls.
        roles: the roles of the server.
    """
    role = f"attack_{login}"
    for table in tables:
        for kind, text in ON_TABLES.items():
            if not _is_granted(login, table, kind):
                yield Statement(f"table: {kind}", text.format(table=table, login=role))
    for signature, nulls in functions.items():
        for kind, text in ON_FUNCTIONS.items():
            name = signature.partition("(")[0]
            yield Statement(f"function: {kind}", text.format(name=name, nulls=nulls, signature=signature, login=role))
    for function in TRIGGER_FUNCTIONS:
        yield Statement("function: own trigger", forged_table(function))
    for other in roles:
        for kind, text in ON_ROLES.items():
            yield Statement(f"role: {kind}", text.format(role=f'"{other}"', login=role))
    for kind, texts in {"setting": SETTINGS, "file": FILES, "catalog": CATALOGS, "object": OBJECTS}.items():
        for text in texts:
            yield Statement(kind, text.replace("{login}", role).replace("%%", "%"))


def _is_granted(login: str, table: str, kind: str) -> bool:
    if login == "reader":
        return table.startswith("roi.") and kind in READS
    return table in ("roi.contacts", "roi.transactions") and kind in READS + EDITS
