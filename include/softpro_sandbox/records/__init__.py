"""Lifelike records of a US title and escrow business, made from a seed: the same seed and sizes give equal bytes."""
