"""Which vendor field goes to which column, per organization: read, validate, compile, apply."""
