"""The only package that imports Airflow: connection, tasks, assets."""
