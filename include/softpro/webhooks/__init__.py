"""Webhooks of SoftPro: verify, receive, process."""
