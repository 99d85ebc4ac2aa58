"""The measured processes that run in the product's own environment."""
