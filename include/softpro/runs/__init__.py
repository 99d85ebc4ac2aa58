"""Run the steps of a sync, a push and a reconcile in order."""
