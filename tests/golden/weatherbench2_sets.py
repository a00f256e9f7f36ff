"""The golden sets of WeatherBench2 and this package's scores of them.

A set NAME is the files NAME_forecast.zarr.zip, NAME_obs.zarr.zip, NAME_clim.zarr.zip and official results NAME_*.nc;
files climatology_NAME.npz and regrid_NAME*.npz hold inputs and results of their own. Nothing here knows a set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from graphufs.grid.grid import Grid
from graphufs.vocabulary.conventions import Convention
from graphufs.vocabulary.regions import all_regions
from graphufs.weatherbench.climatology.seeps import SeepsClimatology
from graphufs.weatherbench.climatology.store import Climatology
from graphufs.weatherbench.climatology.thresholds import ThresholdMethod, thresholds_in
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.truth import DatasetTruth, land_sea_mask
from graphufs.weatherbench.scoring.baselines import ProbabilisticClimatology, baselines, other_years
from graphufs.weatherbench.scoring.histograms import Histograms
from graphufs.weatherbench.scoring.member_maps import MemberMaps
from graphufs.weatherbench.scoring.score import score, usable_initial_times
from graphufs.weatherbench.scoring.score_state import ScoreState

FOLDER = Path(__file__).parent / "weatherbench2"
PRECIPITATION = {"total_precipitation_24hr": "seeps_24hr", "total_precipitation_6hr": "seeps_6hr"}


class Set:
    """One golden set and this package's scores of it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def open(self, kind: str) -> xr.Dataset:
        store = zarr.storage.ZipStore(self.folder / f"{self.name}_{kind}.zarr.zip", mode="r")
        return xr.open_zarr(store, chunks=None)

    def official(self, kind: str) -> xr.Dataset:
        path = self.folder / f"{self.name}_{kind}.nc"
        if not path.exists():
            pytest.skip(f"the set has no {path.name}")
        return xr.open_dataset(path).load()

    @cached_property
    def states(self) -> dict[str, ScoreState]:
        return self.score()

    def seeps(self, convention: Convention = "WeatherBench2") -> SeepsClimatology | None:
        forecasts = Forecasts(self.open("forecast"))
        if not any(channel.variable in PRECIPITATION for channel in forecasts.channels):
            return None
        return SeepsClimatology(self.open("clim"), forecasts.channels, forecasts.grid, convention)

    def score(self, **options: Any) -> dict[str, ScoreState]:
        forecasts = Forecasts(self.open("forecast"))
        observed, climate = self.open("obs"), self.open("clim")
        truth = DatasetTruth(observed, forecasts.channels, forecasts.grid)
        climatology = Climatology(climate, forecasts.channels, forecasts.grid)
        usable, excluded = usable_initial_times(forecasts.initial_times, forecasts.leads, truth.stamps)
        assert not excluded
        none = np.zeros((len(forecasts.leads), len(forecasts.channels)))
        convention: Convention = options.setdefault("convention", "WeatherBench2")
        land = land_sea_mask(observed, forecasts.grid)
        chosen = options.pop("regions", all_regions(convention, land=land is not None))
        return score(
            forecasts,
            truth,
            climatology,
            usable,
            baselines(none),
            regions=chosen,
            land_sea_mask=land,
            vectors=True,
            seeps=self.seeps(convention),
            **options,
        )


class PossibleRanks:
    """Which ranks the truth may have where it equals members, as the lowest and the highest histogram.

    float64 [lead, channel, lat, lon, rank], summed over initial times.
    """

    def __init__(self) -> None:
        self.lowest: Any = 0.0
        self.highest: Any = 0.0
        self.times = 0

    def observe_members(self, name: str, time: np.datetime64, members: np.ndarray, truth: np.ndarray) -> None:
        y, size = truth[:, None], members.shape[1]
        missing = np.isnan(members).sum(axis=1)
        low = np.where(np.isnan(truth), size - missing, (members < y).sum(axis=1))
        ties = np.where(np.isnan(truth), missing, (members == y).sum(axis=1))
        self.lowest = self.lowest + np.eye(size + 1)[low]
        self.highest = self.highest + np.eye(size + 1)[low + ties]
        self.times += 1


class Ensembles(Set):
    """The part of a golden set that is about ensembles; files are told by the same names in any set."""

    @property
    def single(self) -> bool:
        return Forecasts(self.open("ens")).members == 1

    def scored(
        self,
        kind: str,
        regions: Sequence[str] = ("global",),
        method: ThresholdMethod | None = None,
        quantiles: Sequence[float] = (),
        **options: Any,
    ) -> tuple[ScoreState, Histograms]:
        """The scores of the ensemble (`ens`) or the normal distributions (`gauss`)."""
        forecasts, observed, climate = Forecasts(self.open(kind)), self.open("obs"), self.open("clim_ens")
        channels, grid = forecasts.channels, forecasts.grid
        thresholds = thresholds_in(climate, channels, grid, method, quantiles)
        histograms = Histograms(forecasts.leads, channels, regions, () if thresholds is None else thresholds.quantiles)
        states = score(
            forecasts,
            DatasetTruth(observed, channels, grid),
            Climatology(climate, channels, grid),
            forecasts.initial_times,
            {},
            regions=regions,
            land_sea_mask=land_sea_mask(observed, grid),
            thresholds=thresholds,
            histograms=histograms,
            **options,
        )
        return states["emulator"], histograms

    def maps(self, **options: Any) -> tuple[MemberMaps, PossibleRanks]:
        forecasts = Forecasts(self.open("ens"))
        maps = MemberMaps(forecasts.channels, forecasts.grid, forecasts.leads, ranks=True)
        ranks = PossibleRanks()
        self.scored("ens", member_observers=[maps, ranks], **options)
        return maps, ranks

    def climatology_of_years(self, regions: Sequence[str], years: int, *, skipna: bool) -> ScoreState:
        """Earlier years of the truth as an ensemble, scored where the ensemble is."""
        forecasts, observed = Forecasts(self.open("ens")), self.open("obs_years")
        channels, grid = forecasts.channels, forecasts.grid
        truth = DatasetTruth(observed, channels, grid)
        valid = forecasts.initial_times[:, None] + forecasts.leads
        members = other_years(truth, valid, gaps=True)[:years]
        baseline = ProbabilisticClimatology(truth, members, valid, gaps=True)
        return score(
            forecasts,
            truth,
            Climatology(self.open("clim_ens"), channels, grid),
            forecasts.initial_times,
            {"years": baseline},
            regions=regions,
            land_sea_mask=land_sea_mask(observed, grid),
            skipna=skipna,
        )["years"]


def placed(array: xr.DataArray, maps: Any) -> xr.DataArray:
    """An official field with lead times, latitudes and longitudes in the order of our maps."""
    return on_grid(array.sel(lead_time=list(maps.leads)), maps.grid)


def on_grid(array: xr.DataArray, grid: Grid) -> xr.DataArray:
    """An official field with its points in the order of a grid."""
    return array.sel(latitude=grid.latitude, longitude=grid.longitude, method="nearest", tolerance=1e-3)


def present(path: Path) -> Path:
    """The file of a golden folder; another folder need not have all kinds."""
    if not path.exists():
        pytest.skip(f"the folder has no {path.name}")
    return path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    root = metafunc.config.getoption("golden_root", default=None) or Path(__file__).parent
    folder = Path(root) / "weatherbench2"
    if "golden_folder" in metafunc.fixturenames:
        metafunc.parametrize("golden_folder", [folder], ids=["folder"])
    if "golden" in metafunc.fixturenames:
        names = sorted(path.name.removesuffix("_forecast.zarr.zip") for path in folder.glob("*_forecast.zarr.zip"))
        metafunc.parametrize("golden", [Set(folder, name) for name in names], ids=names, scope="module")
    if "ensembles" in metafunc.fixturenames:
        names = sorted(path.name.removesuffix("_ens.zarr.zip") for path in folder.glob("*_ens.zarr.zip"))
        names = [name for name in names if not name.endswith("_clim")]
        metafunc.parametrize("ensembles", [Ensembles(folder, name) for name in names], ids=names, scope="module")
    if "golden_with_nan" in metafunc.fixturenames:
        # only sets whose fields have NaN come with scores that skip them
        names = sorted(path.name.split("_")[0] for path in folder.glob("*_deterministic_skipna.nc"))
        metafunc.parametrize("golden_with_nan", [Set(folder, name) for name in names], ids=names)
    if "official_climatology" in metafunc.fixturenames:
        paths = sorted(folder.glob("climatology_*.npz"))
        metafunc.parametrize("official_climatology", paths, ids=[path.stem for path in paths])
    if "official_regridding" in metafunc.fixturenames:
        paths = sorted(folder.glob("regrid_*.npz"))
        metafunc.parametrize("official_regridding", paths, ids=[path.stem for path in paths])
