"""The documents of orders: made-up ones that cost nothing until somebody asks, and uploaded ones."""
