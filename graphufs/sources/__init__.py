"""What an experiment's data are read from: Replay, the embedded world, or an analysis in one of several layouts."""

__all__ = [
    "analysis",
    "anemoi",
    "cells",
    "data_store",
    "experiment_source",
    "grib_files",
    "kinds",
    "lazy",
    "weatherbench",
]
