"""Replay data: where they come from and what is prepared from them."""
