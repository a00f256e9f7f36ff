"""How good an ensemble is on the evaluation year, against its bars: seeds, members and leads in one table.

Each seed's training, forecasts and scores, and at the same initial times those of the single forecasts it goes on from,
are taken from a root as they lie; with --run what is lacking is made first. Both are shipped experiments, which
--ensemble and --single name. The bars, over the targets at 1, 2, 3 and 5 days:

    corrected spread/skill                      mean in [0.9, 1.1], each target in [0.8, 1.25]
    fair CRPS / deterministic mean abs. error   mean over targets and leads at most 0.80
    fair CRPS / that of climatology             below 1 at each lead
    RMSE of the mean / deterministic RMSE       mean at most 1.02
    member spectra / the truth's                each of wavenumbers 1 to 10 in [0.8, 1.25]

The mean of M members has an error that the mean of all that could be drawn has not: of a calibrated ensemble it is
sqrt(1 + 1/M) larger, 3 % with 16. The table says how large the RMSE is without it, too; the bar is with it.

Climatology as an ensemble has as members the truth of the training year at the same hour, of days that lie up to 30
days from the valid time's day of the year, every fourth.

    python benchmarks/ensemble_skill.py --root DIR --seeds 0 1 2 --members 16 --run
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.errors import UserError
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.truth import PreparedTruth
from graphufs.weatherbench.metrics.ensemble import SKILL, SPREAD, MemberRules
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.diagnostics import Diagnostics
from graphufs.weatherbench.scoring.score import FORECAST, spatial_means
from graphufs.weatherbench.scoring.spectra import TRUTH

DAYS = (1, 2, 3, 5)
WAVENUMBERS = slice(1, 11)
EXPERIMENTS = Path(__file__).parents[1] / "experiments"
AROUND, APART = 30, 4
"""Days on both sides that climatology's members come from, and how far these are apart."""


@dataclass(frozen=True)
class Found:
    """Figures of one seed, each float64 [lead, target]; spectra float64 [lead, target, wavenumber]."""

    rmse: np.ndarray
    rmse_of_all: np.ndarray
    """Of the mean of as many members as could be drawn."""
    crps: np.ndarray
    climatology: np.ndarray
    spread_skill: np.ndarray
    spectra: np.ndarray
    single_spectra: np.ndarray
    """Of the deterministic forecasts."""
    power: np.ndarray
    """What each wavenumber has of the truth's variance in those of the bar: its share."""


def scores_of(experiment: Experiment, root: Path, run: bool) -> Scores:
    """The scores of an experiment, made where they are lacking and `run` says so."""
    if run:
        for step in ("prepare", "normalize", "train", "forecast", "evaluate"):
            print(experiment.name, experiment.training.seed, step, flush=True)
            run_step(step, experiment, root)
    return Scores.open(Paths(experiment, root).scores)


def table_of(scores: Scores, metric: str) -> np.ndarray:
    """A metric of the forecasts, [lead, target]."""
    leads = [np.timedelta64(24 * day, "h") for day in DAYS]
    return np.array([[scores.at(metric, FORECAST, channel, lead) for channel in scores.channels] for lead in leads])


def spectra_of(scores: Scores, source: str = FORECAST, members: bool = False) -> np.ndarray:
    """Mean power of a source by zonal wavenumber, [lead, target, wavenumber]; of its members, each by itself.

    Raises
    ------
    UserError
        If the scores have none.
    """
    if scores.diagnostics is None:
        raise UserError("the scores have no spectra: evaluation.map_leads leaves them out")
    diagnosed = Diagnostics.restore(scores.diagnostics)
    at = [diagnosed.leads.tolist().index(np.timedelta64(24 * day, "h").astype("m8[ns]").tolist()) for day in DAYS]
    if members:
        if diagnosed.member_spectra is None:
            raise UserError("the scores have no spectra of members")
        return np.asarray(diagnosed.member_spectra.mean()[at].mean(axis=1)[..., WAVENUMBERS])
    if diagnosed.spectra is None:
        raise UserError("the scores have no spectra")
    return np.asarray(diagnosed.spectra.sums[source].mean()[at].mean(axis=-2)[..., WAVENUMBERS])


def climatology_crps(experiment: Experiment, root: Path, times: np.ndarray) -> np.ndarray:
    """The fair CRPS of climatology's members at the valid times of all initial times [time], [lead, target]."""
    paths = Paths(experiment, root)
    forecasts, data = Forecasts.open(paths.forecasts), PreparedData.open(paths.data)
    truth = PreparedTruth(data, forecasts.channels, forecasts.grid)
    means, rules = spatial_means(truth), MemberRules(energy=False)
    start, end = (
        np.datetime64(moment, "ns") for moment in (experiment.data.training.start, experiment.data.training.end)
    )
    day, found = np.timedelta64(24, "h").astype("timedelta64[ns]"), np.zeros((len(DAYS), len(forecasts.channels)))
    shifts = day * np.arange(-AROUND, AROUND + 1, APART)
    year = day * 365
    for at, days in enumerate(DAYS):
        for time in times + days * day:
            same = start + (time - start) % year
            # days beyond an end of the year are taken from its other end
            stamps = start + (same + shifts - start) % year
            stamps = stamps[(stamps <= end) & np.isin(stamps, truth.stamps)]
            members = np.require(truth.read(stamps)[None], np.float32, ("C", "W"))
            observed = np.require(truth.read(time[None]), np.float32, ("C", "W"))
            nothing = np.zeros((1, 0, *observed.shape[-2:]))
            for channel in range(len(forecasts.channels)):
                fields = means[channel].of_members(members, observed, nothing, channel, rules).fields
                found[at, channel] += fields[SKILL, 0, 0] - fields[SPREAD, 0, 0] / 2
    return found / len(times)


def figures(seed: int, chosen: argparse.Namespace) -> tuple[Found, tuple[Channel, ...]]:
    """All figures of a seed, of the experiments and in the root that were chosen."""
    root: Path = chosen.root
    at_leads = f"evaluation.map_leads=[{', '.join(f'{24 * day}h' for day in DAYS)}]"  # those of the spectra
    own = [f"training.seed={seed}", f"forecast.members={chosen.members}", at_leads]
    ours = loading.load(EXPERIMENTS / f"{chosen.ensemble}.yaml", [*own, *chosen.set])
    forecast = ours.forecast
    same = [f"forecast.every={forecast.every}h", f"forecast.lead_time={forecast.lead_time}h", at_leads]
    single = scores_of(loading.load(EXPERIMENTS / f"{chosen.single}.yaml", same), root, chosen.run)
    scores = scores_of(ours, root, chosen.run)  # second: it goes on from the other's checkpoint
    if not np.array_equal(scores.initial_times, single.initial_times):
        raise UserError(f"{chosen.single} and {chosen.ensemble} were scored at other initial times")
    members, truth, one = spectra_of(scores, FORECAST, members=True), spectra_of(scores, TRUTH), spectra_of(single)
    crps, rmse = table_of(scores, "crps"), table_of(single, "rmse")
    found = Found(
        table_of(scores, "ensemble_mean_rmse") / rmse,
        table_of(scores, "debiased_ensemble_mean_rmse") / rmse,
        crps / table_of(single, "mae"),
        crps / climatology_crps(ours, root, scores.initial_times),
        table_of(scores, "spread_skill"),
        members / truth,
        one / truth,
        truth / truth.sum(axis=-1, keepdims=True),
    )
    return found, scores.channels


def judged(found: Found) -> dict[str, tuple[bool, str]]:
    """Whether each bar is met, and in words by how much."""
    mean = found.spread_skill.mean(axis=1)
    parts = found.spread_skill, found.spectra
    (low, high), (weakest, strongest) = ((part.min(), part.max()) for part in parts)
    return {
        "spread/skill, mean": (bool(((mean >= 0.9) & (mean <= 1.1)).all()), f"{mean.min():.2f} to {mean.max():.2f}"),
        "spread/skill, each": (low >= 0.8 and high <= 1.25, f"{low:.2f} to {high:.2f}"),
        "CRPS / MAE": (found.crps.mean() <= 0.80, f"{found.crps.mean():.3f}"),
        "CRPS / climatology": (
            bool((found.climatology.mean(axis=1) < 1).all()), f"at most {found.climatology.mean(axis=1).max():.2f}"
        ),
        "RMSE of mean": (
            bool((found.rmse.mean(axis=1) <= 1.02).all()), f"at most {found.rmse.mean(axis=1).max():.3f}"
        ),
        "spectra": (weakest >= 0.8 and strongest <= 1.25, f"{weakest:.2f} to {strongest:.2f}"),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--run", action="store_true", help="make what is lacking")
    parser.add_argument("--ensemble", default="demo_ensemble", help="the experiment")
    parser.add_argument("--single", default="demo_hourly", help="the deterministic one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the ensemble")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console, good = Console(width=110), True
    everything: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "commit": subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True, cwd=EXPERIMENTS).strip(),
        "experiments": [options.single, options.ensemble],
        "set": options.set,
        "members": options.members,
        "days": DAYS,
        "seeds": {},
    }
    for seed in options.seeds:
        try:
            found, channels = figures(seed, options)
        except UserError as error:
            sys.exit(f"seed {seed}: {error}")
        table = Table(title=f"seed {seed}, {options.members} members")
        for heading in (
            "lead",
            "RMSE/det.",
            "of all",
            "CRPS/MAE",
            "CRPS/climatology",
            "spread/skill",
            "of each target",
            "spectra",
        ):
            table.add_column(heading)
        by_target = tuple(vars(found).values())
        for at, day in enumerate(DAYS):
            spectrum = found.spectra[at]
            table.add_row(
                f"{day} d",
                *(f"{part[at].mean():.3f}" for part in by_target[:5]),
                " ".join(f"{value:.2f}" for value in found.spread_skill[at]),
                f"{spectrum.min():.2f} to {spectrum.max():.2f}",
            )
        console.print(table)
        console.print("targets: " + ", ".join(map(str, channels)))
        for name, (met, words) in judged(found).items():
            good &= met
            console.print(f"  {'met' if met else 'MISSED':<7} {name:<20} {words}")
        everything["targets"] = list(map(str, channels))
        rounded = {name: np.round(values, 4).tolist() for name, values in vars(found).items()}
        everything["seeds"][seed] = {"met": {name: bool(met) for name, (met, _) in judged(found).items()}, **rounded}
    if options.json:
        options.json.write_text(json.dumps(everything, indent=2) + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
