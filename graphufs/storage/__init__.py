"""Files and folders: written atomically, locked, named, with their provenance."""
