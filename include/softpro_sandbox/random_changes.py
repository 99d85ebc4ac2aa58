"""Change random records as the vendor's own staff would, without a call of the API."""

import asyncio

from softpro_sandbox.records.changes import change_contact, change_transaction
from softpro_sandbox.records.codec import decode, encode
from softpro_sandbox.state import EntityType, SandboxState
from softpro_sandbox.webhooks.events import ChangeEvent, changed_events
from softpro_sandbox.webhooks.notify import has_receiver, notify

_BATCH = 500
_CHANGES = {EntityType.TRANSACTION: change_transaction, EntityType.CONTACT: change_contact}


def change_random_records(state: SandboxState, organization_id: str, entity: EntityType, count: int) -> list[str]:
    """Change random records now, each with the clock's time.

    Records that were posted raw do not change.

    Returns:
        The ids of the changed records; fewer than `count` when the list is shorter.
    """
    return change_records(state, organization_id, entity, pick_records(state, organization_id, entity, count), None)


async def change_in_batches(
    state: SandboxState, organization_id: str, entity: EntityType, count: int, moment: int | None
) -> list[str]:
    """Change many random records, and let other requests run between batches.

    Each batch takes the clock's time again, so that a stamp is never much older than the response that first shows it.

    Args:
        state: the sandbox.
        organization_id: the organization whose records change.
        entity: the type of the records.
        count: how many records to change.
        moment: one `updatedAt` for all, in milliseconds; None stamps each with the clock's time, batch by batch.

    Returns:
        The ids of the changed records.
    """
    changed_ids: list[str] = []
    ids = pick_records(state, organization_id, entity, count)
    for at in range(0, len(ids), _BATCH):
        changed_ids += change_records(state, organization_id, entity, ids[at : at + _BATCH], moment)
        if moment is None:
            await asyncio.sleep(0)
    return changed_ids


def pick_records(state: SandboxState, organization_id: str, entity: EntityType, count: int) -> list[str]:
    """Pick the ids of random records that are not raw, in random order."""
    store = state.store(organization_id, entity)
    ids = store.regular_ids()
    return state.change_draws.sample(ids, min(count, len(ids)))


def change_records(
    state: SandboxState, organization_id: str, entity: EntityType, ids: list[str], moment: int | None
) -> list[str]:
    """Change the records with these ids; skip ids that do not exist.

    Args:
        state: the sandbox.
        organization_id: the organization whose records change.
        entity: the type of the records.
        ids: the records to change.
        moment: one `updatedAt` for all, in milliseconds; None stamps each with the clock's time.

    Returns:
        The ids of the changed records.
    """
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
