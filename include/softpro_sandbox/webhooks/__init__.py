"""Webhooks, the sending side: what happened, signed, delivered until it is taken (contract, Webhooks)."""
