"""Send the events of changes to the registered receiver, with the webhook faults that are switched on."""

from collections.abc import Sequence
from dataclasses import replace

from softpro_sandbox.clock import now_ms
from softpro_sandbox.state import SandboxState
from softpro_sandbox.webhooks.delivery import Delivery, WebhookSender
from softpro_sandbox.webhooks.events import ChangeEvent
from softpro_sandbox.webhooks.wire_format import WebhookEvent, new_event_id


def has_receiver(state: SandboxState, organization_id: str) -> bool:
    """Return whether an organization has a receiver; without one, callers need not derive events."""
    return organization_id in state.webhook_senders


def notify(state: SandboxState, organization_id: str, changes: Sequence[ChangeEvent]) -> None:
    """Send an event for each change at once, even before the change surfaces. Without a receiver, do nothing."""
    sender = state.webhook_senders.get(organization_id)
    if sender is not None:
        for change in changes:
            _send_event(state, organization_id, sender, change)


def _send_event(state: SandboxState, organization_id: str, sender: WebhookSender, change: ChangeEvent) -> None:
    """Send one event. Always draw four numbers, so that a switch does not shift the faults of later events."""
    switches, rng = state.switches, state.webhook_draws
    delay_draw, duplicate_draw, duplicate_delay_draw, forged_draw = (rng.random() for _ in range(4))
    data = change.data(with_record=switches.webhook_record)
    event_id = new_event_id(rng, now_ms(state.time))
    event = WebhookEvent(event_id, change.type, organization_id, change.entity_type, change.entity_id, data)
    now = state.clock()
    state.stats.webhooks["events"] += 1
    sender.enqueue(Delivery(event, now), delay_draw * switches.webhook_shuffle)
    if duplicate_draw < switches.webhook_duplicates:
        state.stats.webhooks["duplicates"] += 1
        sender.enqueue(Delivery(event, now), duplicate_delay_draw * switches.webhook_shuffle)
    if forged_draw < switches.webhook_forged:
        forged_event = replace(event, event_id=new_event_id(rng, now_ms(state.time)))
        sender.enqueue(Delivery(forged_event, now, forged=True))
