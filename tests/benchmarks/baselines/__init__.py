"""Run the programs that the product is compared with, in `.venv-bench`, without the product's packages."""
