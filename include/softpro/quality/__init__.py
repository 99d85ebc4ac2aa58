"""What may be loaded: the suites, the check that runs them, and the quarantine for what may not."""
