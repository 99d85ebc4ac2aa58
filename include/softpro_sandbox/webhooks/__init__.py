"""Send webhooks: create an event for each change, sign it, and deliver it until it is accepted (contract, Webhooks)."""
