"""What the product is measured beside. These processes run in `.venv-bench`, without the product's packages."""
