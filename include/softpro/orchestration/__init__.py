"""Run the product in Airflow: connection, tasks, assets and triggers. No other package imports Airflow."""
