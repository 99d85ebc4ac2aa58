"""The tests. `unit` needs nothing; `integration` starts an embedded PostgreSQL and the sandbox by itself."""
