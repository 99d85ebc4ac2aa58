"""Evaluate an organization's JSONata rules in a separate process, within limits of time and memory."""
