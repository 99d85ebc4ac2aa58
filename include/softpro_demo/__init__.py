"""The whole product on one machine, started by one command: `make demo`."""
