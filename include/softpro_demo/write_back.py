"""Measure how fast an edit in `roi` reaches the sandbox."""

from __future__ import annotations

import json
import time
from uuid import uuid4

import requests

from softpro.db.database import Database

TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.1

EXAMPLE_EDIT = "update roi.contacts set notes = 'From me' where id = (select id from roi.contacts order by id limit 1)"


def measure_delay(database: Database, sandbox_url: str, organization_id: str, vendor_organization: str) -> float:
    """Measure the seconds from an edit in `roi` until the sandbox has it. Raise TimeoutError."""
    notes = f"Changed in ROI Systems by the demo {uuid4()}"
    with database.connect() as connection:
        row = connection.execute(
            """
            update roi.contacts
            set notes = %(notes)s
            where id = (
                select id from roi.contacts
                where organization_id = %(organization)s and deleted_at is null and softpro_contact_id is not null
                order by id
                limit 1)
            returning softpro_contact_id
            """,
            {"notes": notes, "organization": organization_id},
        ).fetchone()
    assert row is not None
    started = time.monotonic()
    while _notes(sandbox_url, vendor_organization, row["softpro_contact_id"]) != notes:
        if time.monotonic() - started > TIMEOUT_SECONDS:
            raise TimeoutError(f"The change did not arrive at SoftPro within {TIMEOUT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - started


def _notes(sandbox_url: str, vendor_organization: str, contact_id: str) -> str | None:
    """Return the notes of a contact at the sandbox."""
    response = requests.get(
        f"{sandbox_url}/sandbox/export",
        params={"organizationId": vendor_organization, "entityType": "CONTACT"},
        timeout=30,
    )
    response.raise_for_status()
    records = map(json.loads, response.text.splitlines())
    return next((record.get("notes") for record in records if record["contactId"] == contact_id), None)
