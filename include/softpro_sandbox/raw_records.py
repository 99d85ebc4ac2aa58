"""Store records of any shape as they are, so that readers can be tested against them."""

from itertools import count

from softpro_sandbox.clock import parse_ms
from softpro_sandbox.record_store import RecordStore
from softpro_sandbox.records.codec import decode
from softpro_sandbox.state import ID_FIELDS, EntityType, SandboxState
from softpro_sandbox.webhooks.events import created_events, updated_events
from softpro_sandbox.webhooks.notify import notify


def add_raw_record(state: SandboxState, organization_id: str, entity: EntityType, body: bytes) -> str:
    """Add a JSON object to a list byte for byte. A record with the same id is replaced.

    Returns:
        The id under which the record is stored.

    Raises:
        ValueError: the body is not a JSON object.
    """
    record = decode(body)
    own_id = record.get(ID_FIELDS[entity])
    store = state.store(organization_id, entity)
    record_id = own_id if isinstance(own_id, str) and own_id else _free_id(store)
    now = state.stamp()
    try:
        updated_ms = parse_ms(str(record.get("updatedAt")))
    except ValueError:
        updated_ms = now
    build_events = updated_events if record_id in store.latest else created_events
    store.put_raw(record_id, updated_ms, body, state.surface_time(now))
    notify(state, organization_id, build_events(entity, record_id, body))
    return record_id


def _free_id(store: RecordStore) -> str:
    """Return an unused id for a record without one."""
    return next(candidate for number in count(1) if (candidate := f"raw-{number:06d}") not in store.latest)
