"""Evaluate a customer's JSONata rules in a process of their own, within limits of time and memory."""
