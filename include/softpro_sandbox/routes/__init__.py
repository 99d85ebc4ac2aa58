"""Serve the calls, one file per resource."""
