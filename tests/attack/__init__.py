"""Attack a running API server and its database, and count what gets through: `make attack`."""
