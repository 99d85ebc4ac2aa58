"""The vendor's own staff at work: records that change while the sandbox runs, without any call of the API."""

import asyncio

from softpro_sandbox.records.changes import change_contact, change_transaction
from softpro_sandbox.records.codec import decode, encode
from softpro_sandbox.state import EntityType, SandboxState
from softpro_sandbox.webhooks.events import ChangeEvent, changed_events
from softpro_sandbox.webhooks.notify import has_receiver, notify

_BATCH = 500
_CHANGES = {EntityType.TRANSACTION: change_transaction, EntityType.CONTACT: change_contact}


def change_random_records(state: SandboxState, organization_id: str, entity: EntityType, count: int) -> list[str]:
    """Change random records now, each with the clock's time; answers their ids.

    Fewer when there are fewer. Records posted raw stay as they are.
    """
    return change_records(state, organization_id, entity, pick_records(state, organization_id, entity, count), None)


async def change_in_batches(
    state: SandboxState, organization_id: str, entity: EntityType, count: int, moment: int | None
) -> list[str]:
    """Change many random records, letting others be served in between: at `moment`, or each at the clock's time.

    A stamp is thus never much older than the answer that first shows it.
    """
    changed_ids: list[str] = []
    ids = pick_records(state, organization_id, entity, count)
    for at in range(0, len(ids), _BATCH):
        changed_ids += change_records(state, organization_id, entity, ids[at : at + _BATCH], moment)
        if moment is None:
            await asyncio.sleep(0)
    return changed_ids


def pick_records(state: SandboxState, organization_id: str, entity: EntityType, count: int) -> list[str]:
    """Random records that are not raw, in no order."""
    store = state.store(organization_id, entity)
    ids = store.regular_ids()
    return state.change_draws.sample(ids, min(count, len(ids)))


def change_records(
    state: SandboxState, organization_id: str, entity: EntityType, ids: list[str], moment: int | None
) -> list[str]:
    """Change the records of these ids that there are: at `moment` in milliseconds, or each when its turn comes."""
    store = state.store(organization_id, entity)
    changes = []
    events: list[ChangeEvent] = []
    notifying = has_receiver(state, organization_id)
    for record_id in ids:
        version = store.latest.get(record_id)
        if version is not None:
            now = state.stamp() if moment is None else moment
            before = decode(version.body)
            after = _CHANGES[entity](before, state.change_draws, now)
            changes.append((record_id, now, encode(after)))
            if notifying:
                events += changed_events(entity, record_id, before, after, changes[-1][2])
    state.write(organization_id, entity, changes)
    notify(state, organization_id, events)
    return [record_id for record_id, _, _ in changes]
