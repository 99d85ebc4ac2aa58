"""Serve a local SoftPro 360 from memory: seeded, reproducible, and able to misbehave on request."""
