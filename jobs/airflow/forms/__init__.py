"""The DAGs' trigger forms, and what becomes of their answers."""

__all__ = ["choices", "defaults", "from_schema", "nightly", "retraining", "validate"]
