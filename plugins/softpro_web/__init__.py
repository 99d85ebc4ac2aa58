"""Serve the product over HTTP, mounted on Airflow's API server."""
