"""Set up a record that both sides changed, and resolve its conflict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from psycopg import sql

from softpro.db.integrations import Integration
from softpro.db.leases import Run
from softpro.entities import EntityType, Mode, SyncType
from softpro.runs.push import push
from softpro.services import Services
from softpro.writeback import conflicts
from softpro.writeback.conflict_lock import Choices
from softpro.writeback.conflicts import Conflict
from softpro.writeback.resolve import resolve
from softpro.writeback.reverse import reverse
from softpro.writeback.settle import settle_missing

from .databases import execute, rows
from .product import sync
from .sandbox import Sandbox
from .writeback import open_edits

TRANSACTION = EntityType.TRANSACTION


@dataclass(frozen=True)
class ConflictScenario:
    """An organization under MANUAL_REVIEW that sends deletes, with its transactions loaded, and one of them."""

    services: Services
    integration: Integration
    sandbox: Sandbox
    organization: str
    roi_id: UUID
    entity_id: str

    def edit(self, **values: object) -> None:
        """Change the row in `roi`."""
        query = sql.SQL("update roi.transactions set {} where id = {}").format(
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in values.items()
            ),
            self.roi_id,
        )
        execute(self.services.database, query)

    def delete_at_softpro(self) -> None:
        """Delete the record at SoftPro and settle it as missing, as a push does."""
        self.sandbox.delete(self.organization, self.entity_id)
        with self.services.database.connect() as connection:
            [log] = connection.execute("select id, clock_timestamp() as now from softpro.sync_logs limit 1").fetchall()
            run = Run(log["id"], self.integration.stream(TRANSACTION), Mode.PUSH, None, ())
            settle_missing(connection, run, self.entity_id, log["now"])

    def delete(self) -> None:
        execute(self.services.database, "delete from roi.transactions where id = %s", self.roi_id)

    def change_at_softpro(self, **fields: object) -> None:
        """Change the record at SoftPro."""
        with self.services.client(self.integration) as client:
            client.change(TRANSACTION, self.entity_id, fields, None)

    def sync(self) -> None:
        assert sync(self.services, self.integration, TRANSACTION).succeeded

    def push(self) -> None:
        log = push(self.services, self.integration, TRANSACTION, sync_type=SyncType.MANUAL, run_id=f"test__{uuid4()}")
        assert (log.status, log.records_failed) == ("COMPLETED", 0), log.error_message

    @property
    def row(self) -> dict[str, Any] | None:
        found = rows(self.services.database, "select * from roi.transactions where id = %s", self.roi_id)
        return found[0] if found and found[0]["deleted_at"] is None else None

    @property
    def softpro_record(self) -> dict[str, Any] | None:
        return self.sandbox.records(self.organization).get(self.entity_id)

    @property
    def notes(self) -> tuple[Any, Any]:
        """Return the value of `notes` on both sides."""
        assert self.row is not None
        assert self.softpro_record is not None
        return self.row["notes"], self.softpro_record["notes"]

    def conflicts(self) -> list[Conflict]:
        with self.services.database.connect() as connection:
            found, total = conflicts.page(
                connection, self.integration.id, status=None, entity_type=None, limit=50, offset=0
            )
        assert total == len(found)
        return found

    @property
    def conflict(self) -> Conflict:
        [found] = self.conflicts()
        return found

    def resolve(self, choices: Choices, **more: Any) -> Conflict:
        with self.services.database.connect() as connection:
            return resolve(connection, self.integration.id, self.conflict.id, choices, by="ada", **more)

    def reverse(self) -> Conflict:
        with self.services.database.connect() as connection:
            return reverse(connection, self.integration.id, self.conflict.id, by="grace")

    def assert_settled(self) -> None:
        """Assert that neither a sync nor a push finds anything left to do."""
        self.sync()
        self.push()
        assert open_edits(self.services.database) == 0
        asked = self.sandbox.requests_of(self.organization)
        self.push()
        assert self.sandbox.requests_of(self.organization) == asked
