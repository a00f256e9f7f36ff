"""Prepared data: what `prepare` writes below ROOT/data, and how it is read."""
