"""Keep the documents of orders: seeded ones, generated on first use, and uploaded ones."""
