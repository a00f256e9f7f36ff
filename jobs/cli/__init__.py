"""The command line `graphufs-jobs`."""

__all__ = ["app", "main", "scripts", "site_commands", "tables", "wait"]
