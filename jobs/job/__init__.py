"""A job's folder, what it says of the job's status, and what the job used."""

__all__ = ["folder", "messages", "queue", "reading", "records", "status", "usage"]
