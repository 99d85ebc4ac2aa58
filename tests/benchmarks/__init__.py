"""How fast the product is, beside what others need for the same: `make bench`."""
