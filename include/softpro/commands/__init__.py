"""Implement the commands of `python -m softpro`, one file per command group, and the code that they share."""
