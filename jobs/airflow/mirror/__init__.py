"""The control plane's small copy of what the sites hold."""

__all__ = ["fetch", "read"]
