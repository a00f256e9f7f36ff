"""The command line `graphufs-jobs`."""

__all__ = ["app", "main", "scripts", "serve_ssh", "site_commands", "submit_commands", "tables", "wait"]
