"""A local SoftPro 360: serves the vendor contract from memory, seeded and reproducible, with switches to misbehave."""
