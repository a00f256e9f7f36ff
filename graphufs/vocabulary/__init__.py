"""Names without arrays: variables, derived variables, regions, conventions."""

__all__ = [
    "analysis_names", "cf", "conventions", "derived_variables", "labels", "physical_bounds", "regions", "variables",
]  # fmt: skip
