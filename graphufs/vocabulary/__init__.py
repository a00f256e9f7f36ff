"""Names without arrays: variables, derived variables, regions, conventions."""

__all__ = [
    "analysis_names", "cf", "conventions", "derived_variables", "labels", "loss_diagnostics", "mirror",
    "physical_bounds", "regions", "variables",
]  # fmt: skip
