"""`graphufs compare A B`: whether one forecast is significantly better than another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from graphufs.cli.app import Json
from graphufs.cli.ending import DONE
from graphufs.cli.terminal import console
from graphufs.config import loading
from graphufs.config.base import MOST_SEEDS
from graphufs.errors import UserError
from graphufs.registry import registry
from graphufs.storage.atomic import write_text
from graphufs.storage.paths import Paths, root_folder

if TYPE_CHECKING:
    from graphufs.weatherbench.compare.comparison import Comparison, Side
    from graphufs.weatherbench.results.scores import Scores


def _probability(type_: object, value: float) -> None:
    """Refuse NaN too, which is neither below nor above anything."""
    if not 0 < value < 1:
        raise ValueError("must lie between 0 and 1")


def compare(
    a: str,
    b: str,
    *,
    metric: str = "rmse",
    method: Literal["hac", "ar2", "iid", "bootstrap"] = "hac",
    level: Annotated[float, Parameter(validator=_probability)] = 0.05,
    control: Literal["none", "fdr"] = "none",
    allow: Annotated[tuple[Literal["truth", "climatology"], ...], Parameter(negative="", consume_multiple=True)] = (),
    seed: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=MOST_SEEDS))] = 0,
    output: Path | None = None,
    root: Path | None = None,
    json_: Json = False,
) -> int:
    """Compare two forecasts over the initial times both were scored on, and tell which differences are significant.

    Parameters
    ----------
    a, b
        Each the id of a registered model, an experiment's file, a run folder or a store of scores. After a # the name
        of a forecast among the scores, as in experiments/demo.yaml#persistence; without, the emulator.
    metric
        rmse, mse, mae, acc, seeps or rmse_sqrt_before_time_avg; of ensembles crps, energy_score, rps and so on, and
        brier_score_0.9 at a threshold. A single forecast against an ensemble counts as one member.
    method
        hac, ar2 and iid are t-tests, bootstrap resamples blocks of initial times.
    level
        Significance level (two-sided).
    control
        fdr holds the false discovery rate over all targets, leads and regions at the level.
    allow
        Accept that the two have another truth (each its own) or climatology.
    seed
        Of the bootstrap.
    output
        A folder for a page with the scorecard and curves, comparison.html, and comparison.json.
    root
        The root folder. [default: $GRAPHUFS_ROOT, else ./graphufs-root]
    json_
        Print everything as JSON.
    """
    from graphufs.weatherbench.compare.comparison import compare as compared

    sides = side(a, root_folder(root)), side(b, root_folder(root))
    found = compared(*sides, metric, method=method, level=level, control=control, allow=allow, seed=seed)
    scores = sides[0].scores
    if output is not None:
        from graphufs.report.comparison_page import render

        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "comparison.json", json.dumps(found.to_json(), indent=1) + "\n")
        write_text(output / "comparison.html", render(found, scores))
    if json_:
        print(json.dumps(found.to_json(), indent=2))
        return DONE
    console().print(table(found, scores))
    if output is not None:
        print(f"Page: {output / 'comparison.html'}")
    return DONE


def side(wanted: str, root: Path) -> Side:
    """One side of a comparison, as the command line names it.

    Raises
    ------
    UserError
        If it is nothing that has scores.
    """
    from graphufs.vocabulary.labels import forecast_name
    from graphufs.weatherbench.compare.comparison import Side
    from graphufs.weatherbench.results.scores import Scores
    from graphufs.weatherbench.scoring.score import FORECAST

    place, _, forecast = wanted.partition("#")
    path = Path(place).expanduser()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        experiment = loading.load(path)
        name, store = experiment.name, Paths(experiment, root).scores
    elif path.is_dir():
        name, store = _store(path)
    else:
        try:
            model = registry.get(root, place)
        except UserError as error:
            raise UserError(
                f"{place} is neither a file of an experiment, nor a folder with scores, nor a registered model: {error}"
            ) from None
        experiment = loading.parse(model.experiment, origin=f"the experiment of {model.id}")
        name, store = model.id, Paths(experiment, root).scores
    if forecast:
        name = f"{forecast_name(forecast).lower()} of {name}"
    return Side(name, Scores.open(store), forecast or FORECAST)


def _store(path: Path) -> tuple[str, Path]:
    """The name and the store of scores of a folder: the store itself, or a run folder with one."""
    if (path / "statistics").is_dir():
        return path.resolve().name.removesuffix(".zarr"), path
    stores = sorted((path / "scores").glob("*.zarr"))
    if len(stores) == 1:
        resolved = path.resolve()
        return f"{resolved.parent.name}-{resolved.name}", stores[0]
    if stores:
        raise UserError(
            f"{path} has several scores: {', '.join(map(str, stores))}; name one of them, or the experiment"
        )
    raise UserError(f"{path} has no scores; run `graphufs evaluate` first, or name the store of scores")


def table(comparison: Comparison, scores: Scores) -> RenderableType:
    """The comparison for a terminal: percent by target and lead, * where it is significant."""
    from graphufs.report.comparison_page import cautions, how_tested
    from graphufs.weatherbench.results.display import lead_name
    from graphufs.weatherbench.results.table import shown_leads

    leads = [lead for lead in shown_leads(scores) if lead in comparison.leads]
    parts: list[RenderableType] = [
        Text(
            f"{comparison.metric.upper()} of {comparison.a} against {comparison.b}, in percent of the latter, over "
            f"{len(comparison.initial_times)} common initial times. * significant: {how_tested(comparison)}."
        )
    ]
    for at, region in enumerate(comparison.regions):
        shown = Table(box=None, padding=(0, 2, 0, 0), title=Text(region, style="bold"), title_justify="left")
        shown.add_column("")
        for lead in leads:
            shown.add_column(lead_name(lead) + " ", justify="right", no_wrap=True)
        for row, channel in enumerate(comparison.channels):
            cells = []
            for lead in leads:
                cell = int((comparison.leads == lead).argmax()), row, at
                percent = comparison.percent[cell]
                sure = "*" if comparison.significant[cell] else " "
                style = {1: "green", -1: "red", 0: ""}[int(comparison.better[cell])] if sure == "*" else ""
                cells.append(Text("–" if percent != percent else f"{percent:+.1f}{sure}", style=style))
            shown.add_row(scores.channel_name(channel), *cells)
        parts.append(shown)
    return Group(*parts, *(Text(caution, style="yellow") for caution in cautions(comparison)))
