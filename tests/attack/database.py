"""Attack the database with the logins of a reader and an editor of `roi`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg

from softpro.db import locks
from softpro.db.locks import Lock

from ..support.database_logins import GRANTS, Logins
from ..support.databases import execute, one, rows
from ..support.routes import ROUTES
from . import identities
from .attempts import Attempt, Verdict
from .judge import answer
from .statements import Statement, statements
from .target import MARK, Target

SCHEMAS = ["softpro", "raw", "staging", "roi", "analytics"]
RIGHTS = """
with named (schemas) as (select %s::regnamespace[])
select md5(string_agg(line, '|' order by line)) as rights from (
    select 'class ' || c.oid || relname || ' ' || relowner || relkind::text || relrowsecurity
           || coalesce(relacl::text, '') || coalesce(reloptions::text, '')
           from pg_class c, named where relnamespace = any(schemas)
    union all select 'function ' || oid || proname || proowner || prosecdef || coalesce(proacl::text, '')
           || coalesce(proconfig::text, '') || md5(prosrc) from pg_proc, named where pronamespace = any(schemas)
    union all select 'trigger ' || t.oid || tgrelid || tgname || tgenabled::text from pg_trigger t
           join pg_class c on c.oid = tgrelid, named where relnamespace = any(schemas)
    union all select 'schema ' || oid || nspname || nspowner || coalesce(nspacl::text, '') from pg_namespace
           where nspname not like 'pg\\_%%temp\\_%%' and nspname not like 'pg\\_toast%%'
    union all select 'role ' || oid || rolname || rolsuper || rolbypassrls || rolcreaterole || rolcreatedb
           || coalesce(rolpassword, '') from pg_authid
    union all select 'member ' || roleid || ' ' || member || admin_option from pg_auth_members
    union all select 'setting ' || setdatabase || ' ' || setrole || setconfig::text from pg_db_role_setting
    union all select 'cast ' || oid || castsource || ' ' || casttarget from pg_cast where oid >= 16384
    union all select 'extension ' || extname from pg_extension
    union all select 'event trigger ' || evtname from pg_event_trigger
    union all select 'database ' || datname from pg_database where datname not like 'test\\_%%'
) lines (line)
"""
SELECT_FUNCTIONS = """
select p.oid::regprocedure::text as signature, pronargs
from pg_proc p where pronamespace = any(%s::regnamespace[])
"""
NEW_EDITS = "select login, changed_by from softpro.outbox where changed_at > %s"
CHANGE = "update roi.contacts set {} where softpro_contact_id = '{}' and organization_id = '{}'"
MERGE = """
merge into roi.contacts c using (values ('{}', '{}')) v (contact, organization)
on c.softpro_contact_id = v.contact and c.organization_id = v.organization
when matched then update set notes = 'forged'
"""
MARKS_OF_A_WRITE = (
    "",
    "set softpro.loading = 'on'",
    "select set_config('softpro.loading', 'on', false)",
    "set softpro.loading = 'true'; select set_config('softpro.user', 'admin', false)",
    "set \"softpro.LOADING\" = 'on'; set softpro.loading = 'on'",
    "set softpro.embedded = 'on'",
    "set application_name = 'softpro web'",
    "set search_path = pg_temp; create function pg_temp.editor() returns text language sql as $$ select 'admin' $$",
)
"""Settings by which an edit could pass as the loader's own, or as another user's."""

EDITS = (
    "notes = 'forged'",
    "notes = 'forged', updated_at = 'infinity'",
    "notes = 'forged', updated_at = '-infinity'",
    "notes = 'forged', updated_at = now() - interval '1 year'",
    "deleted_at = now()",
)
IDENTITIES = (
    "organization_id = 'attacked-org'",
    "softpro_contact_id = 'con-other'",
    "id = gen_random_uuid()",
    "created_at = now() - interval '1 year'",
    "softpro_created_at = now()",
    "softpro_updated_at = 'infinity'",
)


def attempts(target: Target, extra_grants: tuple[str, ...] = ()) -> Iterator[Attempt]:
    """Yield statements of both logins, edits in disguise, and locks; and as controls what the logins may do.

    Args:
        target: the running product.
        extra_grants: statements that open rights by mistake.
    """
    logins = Logins(target.database)
    logins.create()
    for grant in extra_grants:
        execute(target.database, grant)
    judge = Judge(target, logins, _secrets(target), one(target.database, RIGHTS, SCHEMAS))
    for login in ("reader", "editor"):
        yield Attempt("select", login, partial(_select, logins, login), control=True)
        for statement in statements(login, *_objects(target)):
            name = f"{login}: {statement.text[:150]}"
            yield Attempt(statement.kind, name, partial(judge.refused, login, statement))
    yield from _edits(target, logins, judge)
    yield from _locks(target, logins)


def _objects(target: Target) -> tuple[list[str], dict[str, str], list[str]]:
    """Return the tables and views, the functions with nulls for their arguments, and the roles."""
    tables = rows(
        target.database,
        """
        select c.oid::regclass::text as name from pg_class c
        where relkind in ('r', 'v') and relnamespace = any(%s::regnamespace[]) order by 1
        """,
        SCHEMAS,
    )
    functions = rows(target.database, SELECT_FUNCTIONS, SCHEMAS)
    roles = rows(
        target.database, "select rolname as name from pg_roles where rolname <> all(%s) order by 1", list(GRANTS)
    )
    return (
        [row["name"] for row in tables],
        {row["signature"]: ", ".join(["null"] * row["pronargs"]) for row in functions},
        [row["name"] for row in roles],
    )


def _secrets(target: Target) -> list[str]:
    """Return texts that neither login may read: the marks of control tables, and ciphertexts."""
    found = one(target.database, "select array_agg(client_secret || ' ' || access_token) from softpro.integrations")
    return [MARK, *" ".join(found).split()]


@dataclass
class Judge:
    """Executes statements that have to fail, or to change nothing and to show no secret.

    Attributes:
        rights: a digest of all rights and objects, as they were after the last statement.
    """

    target: Target
    logins: Logins
    secrets: list[str]
    rights: str

    def refused(self, login: str, statement: Statement) -> Verdict:
        """Execute a statement as a login."""
        shown, error = _execute(self.logins, login, statement.text)
        if leaked := next((secret for secret in self.secrets if secret in shown), ""):
            return Verdict("read", f"shows {leaked[:40]!r}")
        if changes := self.target.changed():
            return Verdict("changed", f"changed {changes}")
        if error is not None:
            return _failed(error)
        before, self.rights = self.rights, one(self.target.database, RIGHTS, SCHEMAS)
        if self.rights != before:
            return Verdict("changed", "changed rights or objects")
        warned = "permission denied" in shown or "no privileges were granted" in shown  # by VACUUM and GRANT
        if statement.kind.startswith(("role: set role", "role: session", "table: ")) and not warned:
            return Verdict("done", "it was carried out")
        return Verdict("without effect")


def _execute(logins: Logins, login: str, text: str) -> tuple[str, psycopg.Error | None]:
    """Execute statements, and return all that they showed, and the error."""
    shown: list[str] = []
    with logins.session(login) as session:
        session.execute("set statement_timeout = '10s'; set lock_timeout = '2s'")
        session.add_notice_handler(lambda notice: shown.append(str(notice.message_primary)))
        try:
            if text.startswith("copy ") and text.endswith(" to stdout"):
                with session.cursor().copy(text) as copied:
                    shown += [bytes(block).decode(errors="replace") for block in copied]
                return "".join(shown), None
            cursor = session.execute(text)
            while True:
                if cursor.description is not None:
                    shown.append(str(cursor.fetchall()))
                if not cursor.nextset():
                    return "".join(shown), None
        except psycopg.Error as failed:
            return f"{''.join(shown)} {failed}", failed


def _select(logins: Logins, login: str) -> Verdict:
    shown, error = _execute(logins, login, "select count(*) > 0 as found from roi.contacts")
    return Verdict("read", "" if "True" in shown else f"{shown} {error}")


def _edits(target: Target, logins: Logins, judge: Judge) -> Iterator[Attempt]:
    """Yield edits that try to stay unrecorded, and changes of what identifies a row."""
    for mark in MARKS_OF_A_WRITE:
        for change in EDITS:
            text = _change(target, mark, change)
            yield Attempt("edit in disguise", text[-150:], partial(_recorded, target, logins, text))
        for change in IDENTITIES:
            statement = Statement("identity", _change(target, mark, change))
            yield Attempt("identity", statement.text[-150:], partial(judge.refused, "editor", statement))
    plain = _change(target, "", EDITS[0])
    for text in (
        f"with u as ({plain} returning 1) select * from u",
        f"prepare p as {plain}; execute p",
        f"do $do$ begin {plain}; end $do$",
        f"explain analyze {plain}",
        plain.replace("update roi", "update only roi"),
        MERGE.format(target.own.ids["contact_id"], target.own.name),
    ):
        yield Attempt("edit in disguise", text[:150], partial(_recorded, target, logins, text))
    yield Attempt("edit", "a plain edit", partial(_recorded, target, logins, plain), control=True)


def _change(target: Target, mark: str, change: str) -> str:
    own = target.own
    text = CHANGE.format(change, own.ids["contact_id"], own.name)
    return f"{mark}; {text}" if mark else text


def _recorded(target: Target, logins: Logins, text: str) -> Verdict:
    """Edit a contact, and look for the edit in the outbox and for the replaced version in the history."""
    at = one(target.database, "select clock_timestamp()")
    count = "select count(*) from roi.contacts_history"
    versions = one(target.database, count)
    _, error = _execute(logins, "editor", text)
    edits: list[dict[str, Any]] = rows(target.database, NEW_EDITS, at)
    added = one(target.database, count) - versions
    target.changed()
    if error is not None:
        return Verdict("failed", "the edit failed") if text.startswith("update") else _failed(error)
    by = {tuple(edit.values()) for edit in edits}
    is_whole = by == {("attack_editor", "attack_editor")} and added == 1
    return Verdict("recorded", "" if is_whole else f"{added} versions, edits by {sorted(by)}")


def _failed(error: psycopg.Error) -> Verdict:
    """Return the verdict for a refused statement. One with an error in its syntax proves nothing."""
    is_broken = isinstance(error, psycopg.errors.SyntaxError)
    return Verdict(type(error).__name__, f"is no valid statement: {error}" if is_broken else "")


def _locks(target: Target, logins: Logins) -> Iterator[Attempt]:
    """Yield locks that a login holds while a user works."""
    subjects = [target.own.ids["integration_id"], f"{target.own.ids['integration_id']} CONTACT", "", "admin"]
    keys = {f"{lock} {subject}": locks.key(lock, subject) for lock in Lock for subject in subjects}
    held = {
        **{f"advisory {name}": f"select pg_advisory_lock({key})" for name, key in keys.items()},
        **{f"shared advisory {name}": f"select pg_advisory_lock_shared({key})" for name, key in keys.items()},
        "all advisory locks": "; ".join(f"select pg_advisory_lock({key})" for key in keys.values()),
        **{f"share of {table}": f"lock {table} in access share mode" for table in ("roi.contacts", "roi.transactions")},
    }
    for name, text in held.items():
        yield Attempt("lock", name, partial(_works_beside, target, logins, text))


def _works_beside(target: Target, logins: Logins, text: str) -> Verdict:
    """Hold the lock, and start a run and change settings as a user."""
    admin = next(caller for caller in identities.users(target) if caller.name == "admin")
    wanted = [route for route in ROUTES if (route.method, route.path) in WORK]
    with ExitStack() as stack:
        session = stack.enter_context(logins.session("reader"))
        session.autocommit = False
        session.execute(text)
        responses = [target.send(admin.sign(target.own.request(route))) for route in wanted]
    target.changed()
    late = [answer(response) for response in responses if response.status not in (200, 202)]
    return Verdict("not stopped", f"responses {late}" if late else "")


WORK = {("POST", "/sync/contacts"), ("PATCH", "/settings/{integration_id}"), ("POST", "/mappings/preview")}
