"""Retraining: plan the windows, compare challenger and champion on fresh times, decide by the rule, take it back."""

__all__ = ["compare", "decide", "long_rollout", "plan", "rule", "scorecard"]
