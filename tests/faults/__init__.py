"""Tests that break a promise on purpose: kills."""
