"""Names without arrays: variables, derived variables, regions, conventions."""

__all__ = ["conventions", "derived_variables", "labels", "physical_bounds", "regions", "variables"]
