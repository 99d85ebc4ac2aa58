"""Test the product. `unit` needs no server; `integration` starts an embedded PostgreSQL and the sandbox."""
