"""A job's folder, what it says of the job's status, and what the job used."""

__all__ = ["answers", "folder", "last_words", "messages", "queue", "reading", "records", "status", "usage"]
