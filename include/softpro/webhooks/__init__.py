"""Receive SoftPro's webhook events, and fetch the records that they are about."""
