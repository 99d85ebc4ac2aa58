"""Describe the bodies of requests and responses, one file per resource."""
