"""What happened becomes events on their way to whoever is registered, with the mishaps that are switched on."""

from collections.abc import Sequence
from dataclasses import replace

from softpro_sandbox.clock import to_ms
from softpro_sandbox.state import World
from softpro_sandbox.webhooks.delivery import Courier, Delivery
from softpro_sandbox.webhooks.events import Happening
from softpro_sandbox.webhooks.wire_format import Event, event_id


def listens(world: World, organization_id: str) -> bool:
    """Whether an organization has a receiver; without one there is no need to work out what to tell."""
    return organization_id in world.couriers


def tell(world: World, organization_id: str, happenings: Sequence[Happening]) -> None:
    """Send an event for each happening, at once: before the change may have surfaced. Nobody listens: nothing."""
    courier = world.couriers.get(organization_id)
    if courier is not None:
        for happening in happenings:
            _tell(world, organization_id, courier, happening)


def _tell(world: World, organization_id: str, courier: Courier, happening: Happening) -> None:
    """One event. Always four draws, so that one switch does not shift what befalls later events."""
    switches, draws = world.switches, world.webhook_draws
    late, twice, twice_late, forged = (draws.random() for _ in range(4))
    data = happening.data(with_record=switches.webhook_record)
    new_id = event_id(draws, to_ms(world.time))
    event = Event(new_id, happening.type, organization_id, happening.entity_type, happening.entity_id, data)
    now = world.clock()
    world.stats.webhooks["events"] += 1
    courier.take(Delivery(event, now), late * switches.webhook_shuffle)
    if twice < switches.webhook_duplicates:
        world.stats.webhooks["duplicates"] += 1
        courier.take(Delivery(event, now), twice_late * switches.webhook_shuffle)
    if forged < switches.webhook_forged:
        other = replace(event, event_id=event_id(draws, to_ms(world.time)))
        courier.take(Delivery(other, now, forged=True))
