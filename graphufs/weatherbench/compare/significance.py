"""Is a score, or the difference of two, more than chance? Intervals that know that initial times resemble each other.

A score is a function of statistics averaged over initial times. The t-tests work on its linearization: with the
influence u_t of the initial time t, score - true score is about mean_t(u_t) (the delta method; exact for a plain mean
such as the MSE). Their standard errors differ in what they assume of the series u_t:

- `hac`: nothing but smooth dependence; the equal-weighted cosine estimator of Lazarus et al. (2018,
  doi:10.1080/07350015.2018.1506926): the mean square of the v = 0.4 T^(2/3) slowest cosine coefficients, t with v
  degrees of freedom;
- `ar2`: a second-order autoregression (Geer 2016, doi:10.3402/tellusa.v68.30229);
- `iid`: independence.

The `bootstrap` resamples blocks of initial times of random length around the end of the series (Politis & Romano
1994), with mean length after Patton, Politis & White (2009, doi:10.1080/07474930802459016), and evaluates the score
itself. All follow weatherbenchX/statistical_inference; here the bootstrap has a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, TypedDict, Unpack, get_args

import numpy as np
from scipy import fft, special

from graphufs.errors import UserError
from graphufs.weatherbench.compare.bootstrap import block_length, percentile_interval, resampled
from graphufs.weatherbench.metrics.metrics import Averages, Metric, time_mean
from graphufs.weatherbench.scoring.score_state import ScoreState

Method = Literal["hac", "ar2", "iid", "bootstrap"]

AT_LEAST = 8
"""Initial times below which nothing is said about chance."""


@dataclass(frozen=True)
class Inference:
    """An estimate and its uncertainty, each [lead, channel, region]."""

    estimate: np.ndarray
    standard_error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray
    """Two-sided, of the estimate being 0."""
    initial_times: int
    evenly_spaced: bool
    """Whether the initial times are; gaps make the dependence look weaker than it is."""


class Options(TypedDict, total=False):
    """How differences are tested: as `_infer` has them where not given."""

    method: Method
    level: float
    seed: int
    replicates: int


def score_uncertainty(state: ScoreState, metric: str, **how: Unpack[Options]) -> Inference:
    """The uncertainty of a score; see `score_difference`."""
    return _infer([state], [1.0], metric, **how)


def score_difference(state: ScoreState, reference: ScoreState, metric: str, **how: Unpack[Options]) -> Inference:
    """The score of one forecast minus that of another, paired by initial time; only initial times of both count.

    Both were scored on the same leads, channels and regions. `how` has `method` (see the module), `hac` where not
    given; `level`, the significance level (two-sided), 0.05, so that the interval has the confidence level 1 - `level`;
    `seed` and `replicates` of the bootstrap, 0 and 1000.

    Raises
    ------
    UserError
        If the two do not fit together, or fewer than eight initial times are left.
    """
    if state.axes != reference.axes:
        raise UserError("scores can only be compared on the same statistics, leads, channels, regions and convention")
    common = np.intersect1d(state.initial_times, reference.initial_times)
    pair = [one.select(common) for one in (state, reference)]
    return _infer(pair, [1.0, -1.0], metric, **how)


def _infer(
    states: list[ScoreState],
    signs: list[float],
    metric: str,
    *,
    method: Method = "hac",
    level: float = 0.05,
    seed: int = 0,
    replicates: int = 1000,
) -> Inference:
    if method not in get_args(Method):
        raise UserError(f"there is no method {method}; there are {', '.join(get_args(Method))}")
    if not 0 < level < 1:
        raise UserError(f"the level must lie between 0 and 1, got {level}")
    times = states[0].initial_times
    if len(times) < AT_LEAST:
        raise UserError(f"{len(times)} initial times are too few to tell skill from chance; at least {AT_LEAST} needed")
    known = states[0].axes.metrics
    if metric not in known:
        raise UserError(f"these scores cannot tell {metric}, only {', '.join(known)}")
    averages = [state.averages(known[metric].statistics) for state in states]
    weighted = list(zip(signs, averages, strict=True))
    estimate = np.asarray(sum(sign * known[metric].combine(one, time_mean()) for sign, one in weighted))
    influence = np.asarray(sum(sign * influences(known[metric], one) for sign, one in weighted))
    steps = np.diff(times)
    even = bool((steps == steps[0]).all())
    if method == "bootstrap":
        lengths = np.apply_along_axis(block_length, 0, influence)
        values = np.zeros((replicates, *estimate.shape))
        for sign, one in weighted:
            of_one = partial(known[metric].combine, one)
            values += sign * resampled(of_one, lengths, len(times), replicates, seed)
        low, high, p_value = percentile_interval(values, level)
        return Inference(estimate, values.std(axis=0, ddof=1), low, high, p_value, len(times), even)
    error, freedom = STANDARD_ERRORS[method](influence)
    quantile = special.stdtrit(freedom, 1 - level / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where((estimate == 0) & (error == 0), 0.0, estimate / error)
    p_value = 2 * special.stdtr(freedom, -np.abs(ratio))
    return Inference(
        estimate, error, estimate - quantile * error, estimate + quantile * error, p_value, len(times), even
    )


def influences(metric: Metric, averages: Averages, step: float = 1e-4) -> np.ndarray:
    """How far each initial time pulls a score from its mean, float64 [init, ...], to first order.

    The score is evaluated with each initial time's weight a little larger and a little smaller. Every metric is a
    function of means, so that all initial times are done at once.
    """

    def towards(share: float) -> np.ndarray:
        def mean(values: np.ndarray) -> np.ndarray:
            whole = values.mean(axis=0)
            return np.asarray(whole + share * (values - whole))

        return metric.combine(averages, mean)

    return (towards(step) - towards(-step)) / (2 * step)


def _iid(influence: np.ndarray) -> tuple[np.ndarray, int]:
    times = len(influence)
    return np.sqrt((influence**2).sum(axis=0) / (times - 1) / times), times - 1


def _ar2(influence: np.ndarray) -> tuple[np.ndarray, int]:
    times = len(influence)
    variance = (influence**2).sum(axis=0) / (times - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        first, second = (
            np.where(variance == 0, 0.0, (influence[lag:] * influence[:-lag]).mean(axis=0) / variance) for lag in (1, 2)
        )
        phi1 = first * (1 - second) / (1 - first**2)
        phi2 = (second - first**2) / (1 - first**2)
        inflation = np.sqrt((1 - first * phi1 - second * phi2) / (1 - phi1 - phi2) ** 2)
    return np.sqrt(variance / times) * inflation, times - 1


def _hac(influence: np.ndarray) -> tuple[np.ndarray, int]:
    times = len(influence)
    slow = min(max(1, int(0.4 * times ** (2 / 3))), times - 1)
    coefficients = fft.dct(influence, type=2, axis=0, norm="ortho")[1 : slow + 1]
    return np.sqrt((coefficients**2).mean(axis=0) / times), slow


STANDARD_ERRORS = {"iid": _iid, "ar2": _ar2, "hac": _hac}
"""From influences [init, ...] to the standard error of their mean [...] and the degrees of freedom."""
