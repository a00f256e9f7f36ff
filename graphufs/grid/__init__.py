"""Latitude-longitude grids: areas and regridding."""
