"""Trainings of ensembles: the score of members, and the guard against members that are all the same."""

__all__ = ["collapse", "members"]
