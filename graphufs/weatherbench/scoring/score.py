"""Scoring: forecasts and baselines against the same truth, one initial time after the other, in one pass.

At any moment one initial time is in memory, with the truth and climatology of its valid times; what stays is the
`ScoreState` of each forecast. Truth that the next initial time needs too is not read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from graphufs.errors import UserError
from graphufs.replay.times import text
from graphufs.vocabulary.conventions import DEFAULT, Convention
from graphufs.weatherbench.climatology.seeps import SeepsClimatology
from graphufs.weatherbench.climatology.thresholds import Thresholds
from graphufs.weatherbench.inputs.channels import vectors_in
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.layout_checks import phase_mismatch
from graphufs.weatherbench.inputs.members import single_mean
from graphufs.weatherbench.inputs.truth import ClimatologyReader, FrameWindow, Truth
from graphufs.weatherbench.metrics.kernel import ORDER
from graphufs.weatherbench.metrics.metrics import DEFAULT_STATISTICS, OF_VECTORS, SKIPS_NAN, Fields, pointwise
from graphufs.weatherbench.metrics.region_weights import region_weights
from graphufs.weatherbench.metrics.seeps import SeepsThresholds
from graphufs.weatherbench.metrics.spatial_mean import SpatialMean
from graphufs.weatherbench.scoring.baselines import Baseline, BaselineInputs
from graphufs.weatherbench.scoring.histograms import Histograms
from graphufs.weatherbench.scoring.members import MemberScoring, average_gaussian, statistics_of
from graphufs.weatherbench.scoring.score_state import Axes, ScoreState

FORECAST = "emulator"
"""The name of the scored forecasts next to the baselines."""

BLOCK_VALUES = 2**20
"""Values of a field looked at together, so that temporaries stay small."""


class Observer(Protocol):
    """Takes in what is scored, such as to keep maps or spectra."""

    def observe(
        self, name: str, time: np.datetime64, forecast: np.ndarray, truth: np.ndarray, climatology: np.ndarray
    ) -> None:
        """Look at one forecast, its truth and climatology, float32 [lead, channel, lat, lon]."""


class MemberObserver(Protocol):
    """Takes in the members of ensembles that are scored."""

    def observe_members(self, name: str, time: np.datetime64, members: np.ndarray, truth: np.ndarray) -> None:
        """Look at an ensemble, float32 [lead, member, channel, lat, lon], and its truth [lead, channel, lat, lon]."""


def spatial_means(
    truth: Truth,
    *,
    skipna: bool = False,
    regions: Sequence[str] = ("global",),
    land_sea_mask: np.ndarray | None = None,
    convention: Convention = DEFAULT,
    vectors: bool = False,
) -> list[SpatialMean]:
    """The area-weighted means of each channel over regions, taken over the points where the channel has values.

    With `vectors`, the means of the vectors in `vectors_in` follow. `land_sea_mask` [lat, lon] is the share of land.

    Raises
    ------
    UserError
        If a channel has no value at any point.
    """
    masks = list(truth.mask)
    if vectors:
        masks += [np.logical_and.reduce(truth.mask[list(at)]) for at in vectors_in(truth.channels).values()]
    by_mask: dict[bytes, SpatialMean] = {}
    means = []
    for mask in masks:
        key = mask.tobytes()
        if key not in by_mask:
            if not mask.any():
                raise UserError("a channel of the truth has no value at any point: nothing to score there")
            weights = region_weights(
                truth.grid.latitude,
                truth.grid.longitude,
                regions,
                land_sea_mask=land_sea_mask,
                mask=mask,
                convention=convention,
            )
            by_mask[key] = SpatialMean(weights, skipna=skipna)
        means.append(by_mask[key])
    return means


def usable_initial_times(
    initial_times: np.ndarray, leads: np.ndarray, stamps: np.ndarray, *, at_start: bool = True
) -> tuple[np.ndarray, dict[np.datetime64, np.datetime64]]:
    """The initial times with truth at all valid times and, if `at_start`, at the initial time (for baselines).

    Initial times and stamps of the truth are [time], leads [lead]. These initial times are returned ascending, and for
    each other one the first time at which the truth is missing.

    Raises
    ------
    UserError
        If there is no usable one.
    """
    offsets = np.sort(leads)
    if at_start:
        offsets = np.concatenate([[np.timedelta64(0, "ns")], offsets])
    usable, excluded = [], {}
    for time in np.sort(initial_times):
        missing = ~np.isin(time + offsets, stamps)
        if missing.any():
            excluded[time] = (time + offsets)[missing][0]
        else:
            usable.append(time)
    if not usable:
        if mismatch := phase_mismatch(initial_times[:, None] + leads, stamps):
            raise UserError(f"no forecast can be scored: {mismatch}; take truth or leads on the same hours")
        reason = "".join(
            f": {text(time)} for example has no truth at {text(at)}" for time, at in [*excluded.items()][:1]
        )
        raise UserError(
            f"none of the {len(initial_times)} initial times can be scored{reason}. Prepare the data of the whole "
            "forecast period, or check that forecasts and truth lie on the same hours"
        )
    return np.array(usable, "datetime64[ns]"), excluded


def score(
    forecasts: Forecasts,
    truth: Truth,
    climatology: ClimatologyReader,
    initial_times: np.ndarray,
    baselines: Mapping[str, Baseline],
    *,
    statistics: Sequence[str] = DEFAULT_STATISTICS,
    regions: Sequence[str] = ("global",),
    land_sea_mask: np.ndarray | None = None,
    vectors: bool = False,
    seeps: SeepsClimatology | None = None,
    convention: Convention = DEFAULT,
    skipna: bool = False,
    thresholds: Thresholds | None = None,
    histograms: Histograms | None = None,
    as_ensemble: bool = False,
    observers: Sequence[Observer] = (),
    member_observers: Sequence[MemberObserver] = (),
    after_each: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, ScoreState]:
    """Score forecasts and baselines from the same initial times; the states by name, the forecasts' as `emulator`.

    Forecasts, truth and climatology have the same channels, on the same grid; the truth must be complete for the
    initial times [time] (`usable_initial_times`). To the `statistics` kept SEEPS is added where `seeps` is given. The
    fraction of land, [lat, lon], is for land versions of regions. With `vectors`, wind vectors are scored too, as
    channels of their own after the others; with `skipna`, NaN in a field is left out of spatial means instead of making
    them NaN. `after_each` is called with the number of initial times done and of all.

    Of an ensemble the mean is scored as a single forecast is, which is what observers see, and the members besides;
    single baselines are ensembles of one, and with `as_ensemble` single forecasts too. Events are told by `thresholds`,
    and `histograms` are added to.
    """
    if seeps is not None:
        statistics = [*statistics, "seeps"]
    quantiles = () if thresholds is None else thresholds.quantiles
    members_too = as_ensemble or forecasts.members is not None
    of_members = statistics_of(quantiles, ensemble=members_too, gaussian=forecasts.gaussian)
    components = vectors_in(forecasts.channels) if vectors else {}
    channels = (*forecasts.channels, *components)
    axes = Axes((*statistics, *of_members), tuple(forecasts.leads), channels, tuple(regions), convention, skipna)
    single = replace(axes, statistics=tuple(statistics))
    names = [FORECAST, *baselines]
    states = {name: ScoreState(axes) for name in names}
    means = spatial_means(
        truth,
        skipna=skipna,
        regions=regions,
        land_sea_mask=land_sea_mask,
        convention=convention,
        vectors=vectors,
    )
    ensemble = MemberScoring(truth, axes, means, tuple(components.values()), quantiles) if of_members else None
    held: np.ndarray | None = None  # the forecast's members, whose memory the next initial time takes over
    truths, climatology_window, order = FrameWindow(truth.read), FrameWindow(climatology.read), np.sort(initial_times)
    # what stays lies together: between what comes and goes it would leave holes twice its size
    room = {name: np.empty((len(order), *axes.shape)) for name in names}
    for done, time in enumerate(order, 1):
        valid = time + forecasts.offsets
        # without baselines the initial time is not looked at, and nothing need be known of it
        times = np.concatenate([[time], valid]) if baselines else valid
        seen, climatology_frames = truths.frames(times), climatology_window.frames(times)
        rain = seeps.read(valid) if seeps is not None else {}
        limits = thresholds.read(valid) if thresholds is not None and of_members else {}
        at_leads: tuple[Frames, Frames] = seen[-len(valid) :], climatology_frames[-len(valid) :]
        if baselines or observers or of_members:  # they look at all leads at once
            observed, climatology_at_leads = np.stack(seen[-len(valid) :]), np.stack(climatology_frames[-len(valid) :])
            at_leads = observed, climatology_at_leads
        if baselines:
            inputs = BaselineInputs(seen[0], climatology_frames[0], climatology_at_leads, valid)
        for name in names:
            if name == FORECAST:
                values, members = _read(forecasts, time, held)
                held = members
            else:
                values, members = _split(baselines[name](inputs))
            if members is not None:
                values = single_mean(np.moveaxis(members, 1, 0), skipna)
            averages = average(
                values,
                *at_leads,
                single,
                means,
                vectors=tuple(components.values()),
                seeps=rain,
            )
            if ensemble is not None:
                averages = np.concatenate([averages, np.full((len(of_members), *axes.shape[1:]), np.nan)])
                if forecasts.gaussian:
                    spread = forecasts.read_deviations(time) if name == FORECAST else np.zeros_like(values)
                    average_gaussian(values, spread, observed, limits, quantiles, axes, means, averages)
                else:
                    members = values[:, None] if members is None else members
                    counts = ensemble.average(members, observed, limits, averages)
                    if histograms is not None:
                        histograms.update(name, time, counts)
                    for member_observer in member_observers:
                        member_observer.observe_members(name, time, members, observed)
            room[name][done - 1] = averages
            states[name].update(time, room[name][done - 1])
            for observer in observers:
                observer.observe(name, time, values, observed, climatology_at_leads)
        del values, seen, climatology_frames, at_leads  # gone before the next ones are read
        after_each(done, len(order))
    return states


def _read(forecasts: Forecasts, time: np.datetime64, held: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """A forecast as `_split` gives it; the members that are still `held` are used up."""
    if forecasts.members is None:
        return forecasts.read(time), None
    return _split(forecasts.read_members(time, held))


def _split(found: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """A single forecast, or any member, and the members, where there are any."""
    return (found[:, 0], found) if found.ndim == 5 else (found, None)


Frames = np.ndarray | Sequence[np.ndarray]
"""[lead, channel, lat, lon], or a list of the leads' [channel, lat, lon]."""


def average(
    forecast: Frames,
    truth: Frames,
    climatology: Frames,
    axes: Axes,
    means: Sequence[SpatialMean],
    *,
    vectors: Sequence[Sequence[int]] = (),
    seeps: Mapping[int, SeepsThresholds] | None = None,
) -> np.ndarray:
    """Spatial means of the statistics of one initial time, float64 [statistic, lead, channel, region].

    They are NaN where a statistic is not defined for a channel. The channels of `axes`, for each of which there is one
    of `means`, are those of the fields and then the vectors, given by the positions of their components among the
    former. SEEPS' thresholds are by position too.
    """
    averages = np.full(axes.shape, np.nan)
    compiled = [(row, ORDER.index(name)) for row, name in enumerate(axes.statistics) if name in ORDER]
    others = [row for row, name in enumerate(axes.statistics) if name not in ORDER]
    rows, known = np.array(compiled, int).reshape(-1, 2).T
    scalars = [(position,) for position in range(len(forecast[0]))]
    leads = max(1, BLOCK_VALUES // forecast[0].size)
    for start in range(0, len(forecast), leads):
        part = slice(start, start + leads)
        fields = (_together(forecast[part]), _together(truth[part]), _together(climatology[part]))
        thresholds = {position: limits.part(part) for position, limits in (seeps or {}).items()}
        block = averages[:, part]
        good = np.zeros((len(scalars), len(block[0])), bool)
        for channel in range(len(scalars)):
            found, good[channel] = means[channel].of_statistics(*fields, channel)
            block[rows, :, channel] = found[known]
        for channel, components in enumerate([*scalars, *vectors]):
            if len(components) > 1:
                # the mean of a sum is the sum of means where they run over the same points
                same = all(means[position] is means[channel] for position in components)
                fine = good[list(components)].all(axis=0) & same
                for row, name in enumerate(axes.statistics):
                    if name in OF_VECTORS:
                        block[row, :, channel] = block[row][:, list(components)].sum(axis=1)
            else:
                fine = good[channel]
            wanted = others if fine.all() else range(len(axes.statistics))
            _look_closer(block, channel, components, fields, axes, means[channel], wanted, thresholds)
    return averages


def _together(frames: Frames) -> np.ndarray:
    """As the compiled loop has to have them: in one piece, C-contiguous and writable."""
    return np.require(frames if isinstance(frames, np.ndarray) else np.stack(frames), np.float32, ("C", "W"))


def _look_closer(
    block: np.ndarray,
    channel: int,
    components: Sequence[int],
    fields: tuple[np.ndarray, np.ndarray, np.ndarray],
    axes: Axes,
    mean: SpatialMean,
    rows: Iterable[int],
    seeps: Mapping[int, SeepsThresholds],
) -> None:
    """Fill some statistics of a channel in block [statistic, lead, channel, region] without the compiled loop.

    It knows SEEPS, and the rules for NaN and infinity.
    """
    (f, o, c), parts = fields, dict[type, list[Fields]]()
    for row in rows:
        name = axes.statistics[row]
        kind = np.float64 if name in ORDER else np.float32  # as the compiled loop does; SEEPS compares with float32
        if kind not in parts:
            parts[kind] = [
                Fields(f[:, at].astype(kind), o[:, at].astype(kind), c[:, at].astype(kind), seeps.get(at))
                for at in components
            ]
        if (values := pointwise(name, parts[kind])) is not None:
            block[row, :, channel] = mean(values, skipna=name in SKIPS_NAN or None)
