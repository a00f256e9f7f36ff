"""What a night does: time passes in the embedded world, initial times are chosen, their scores are added."""

__all__ = ["extend_world", "initial_times", "plan", "record", "scores"]
