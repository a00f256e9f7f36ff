"""Names without arrays: variables, derived variables, regions, conventions."""
