"""Connect and disconnect an organization, and rotate the keys of what is stored for it."""
