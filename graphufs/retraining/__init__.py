"""Retraining: plan the windows, compare challenger and champion on fresh times, decide by the rule, take it back."""
