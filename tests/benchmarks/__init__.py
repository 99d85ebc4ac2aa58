"""Measure how fast the product is, compared with other programs for the same task: `make bench`."""
