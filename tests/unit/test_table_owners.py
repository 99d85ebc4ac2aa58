"""Check in the source that one package writes each table, and others call it.

A `copy` whose table name is composed is not seen: it fills `raw.records`, temporary tables and staging.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

PRODUCT = Path(__file__).resolve().parents[2] / "include" / "softpro"
WRITES = re.compile(
    r"\b(?:insert\s+into|update|delete\s+from|truncate|copy|merge\s+into)\s+((?:softpro|raw|staging)\.\w+)",
    re.IGNORECASE,
)
SHARED = {
    "softpro.conflicts": {"sync", "writeback"},
    "softpro.creates": {"db", "writeback"},
    "softpro.cursors": {"db", "quality", "sync", "webhooks"},
    "softpro.integrations": {"db", "softpro360"},
    "softpro.outbox": {"db", "sync", "writeback"},
    "softpro.quarantine": {"quality", "sync"},
    "softpro.audits": {"reconcile", "sync"},
    "softpro.audit_seen": {"reconcile", "sync"},
    "softpro.webhook_events": {"db", "webhooks"},
    "staging.rejects": {"quality", "sync"},
}
"""Tables that one statement writes together with tables of another package, in one transaction."""


def writers() -> dict[str, set[str]]:
    """Return the files, below the product, that write each table."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PRODUCT.rglob("*.py"):
        for match in WRITES.finditer(path.read_text(encoding="utf-8")):
            found[match[1]].add(path.relative_to(PRODUCT).as_posix())
    return found


def test_pending_is_written_by_its_module_alone() -> None:
    assert writers()["raw.pending"] == {"db/pending.py"}


def test_each_table_is_written_by_one_package() -> None:
    packages = {table: {file.split("/")[0] for file in files} for table, files in writers().items()}
    assert {table: written for table, written in packages.items() if len(written) > 1} == SHARED
