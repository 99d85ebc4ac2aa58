"""Attack the product as a login, a user or a stranger would."""
