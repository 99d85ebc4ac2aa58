"""Generate realistic records of a US title and escrow business; the same seed and sizes give equal bytes."""
