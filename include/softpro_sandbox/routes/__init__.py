"""The calls, one file per resource."""
