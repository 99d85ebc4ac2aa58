"""Check staged records with the quality suites, and quarantine or hold those that must not load."""
