"""The vendor's own staff at work: records that change while the sandbox runs, without any call of the API."""

import asyncio

from softpro_sandbox.records.changes import change_contact, change_transaction
from softpro_sandbox.records.codec import decode, encode
from softpro_sandbox.state import EntityType, World
from softpro_sandbox.webhooks.events import Happening, changed
from softpro_sandbox.webhooks.notify import listens, tell

_BATCH = 500
_CHANGES = {EntityType.TRANSACTION: change_transaction, EntityType.CONTACT: change_contact}


def change_some(world: World, organization_id: str, entity: EntityType, count: int) -> list[str]:
    """Change random records now, each with the clock's time; answers their ids.

    Fewer when there are fewer. Records posted raw stay as they are.
    """
    return change_these(world, organization_id, entity, choose(world, organization_id, entity, count), None)


async def change_batches(
    world: World, organization_id: str, entity: EntityType, count: int, moment: int | None
) -> list[str]:
    """Change many random records, letting others be served in between: at `moment`, or each at the clock's time.

    A stamp is thus never much older than the answer that first shows it.
    """
    changed: list[str] = []
    ids = choose(world, organization_id, entity, count)
    for at in range(0, len(ids), _BATCH):
        changed += change_these(world, organization_id, entity, ids[at : at + _BATCH], moment)
        if moment is None:
            await asyncio.sleep(0)
    return changed


def choose(world: World, organization_id: str, entity: EntityType, count: int) -> list[str]:
    """Random records that are not raw, in no order."""
    catalogue = world.catalogue(organization_id, entity)
    ids = catalogue.ordinary()
    return world.change_draws.sample(ids, min(count, len(ids)))


def change_these(
    world: World, organization_id: str, entity: EntityType, ids: list[str], moment: int | None
) -> list[str]:
    """Change the records of these ids that there are: at `moment` in milliseconds, or each when its turn comes."""
    catalogue = world.catalogue(organization_id, entity)
    changes = []
    happened: list[Happening] = []
    told = listens(world, organization_id)
    for record_id in ids:
        version = catalogue.true.get(record_id)
        if version is not None:
            now = world.stamp() if moment is None else moment
            before = decode(version.body)
            after = _CHANGES[entity](before, world.change_draws, now)
            changes.append((record_id, now, encode(after)))
            if told:
                happened += changed(entity, record_id, before, after, changes[-1][2])
    world.write(organization_id, entity, changes)
    tell(world, organization_id, happened)
    return [record_id for record_id, _, _ in changes]
