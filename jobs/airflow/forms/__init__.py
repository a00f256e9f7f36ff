"""The DAGs' trigger forms, and what becomes of their answers."""
