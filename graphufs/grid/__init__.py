"""Latitude-longitude grids: areas and regridding."""

__all__ = ["areas", "grid", "regridding"]
