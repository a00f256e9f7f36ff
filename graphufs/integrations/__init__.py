"""An emulator inside other frameworks; a module needs the framework it is named after, and nothing else does."""

__all__ = ["earth2studio", "earth2studio_names"]
