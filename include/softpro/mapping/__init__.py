"""Read, validate, compile and apply an organization's mappings from SoftPro fields to columns."""
