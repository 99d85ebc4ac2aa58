"""Run the measured jobs in the product's own environment."""
