"""Check requests before a route sees them."""
