"""Compare a complete sweep with the stored records, and confirm the deletes that it shows."""
