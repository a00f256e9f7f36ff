"""What the documentation site has beside the files in docs/: pages made of the code, and links out of the folder."""

__all__ = ["commands", "dags", "experiments", "hooks", "packages"]
