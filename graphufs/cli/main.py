"""The command line `graphufs`: the steps of an experiment, chains of them, and what only looks.

Commands of nights and retraining, on registered models, comparisons and scores of any stores are in modules of their
own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter, validators

from graphufs.cli import nightly as nightly  # their commands are this one's
from graphufs.cli import plan as plan
from graphufs.cli import retraining as retraining
from graphufs.cli.app import Json, Options, app, run_one, run_steps
from graphufs.cli.clean import clean
from graphufs.cli.ending import DONE, FAILED, finish
from graphufs.cli.exchange.catalogue import catalogue
from graphufs.cli.exchange.convert import convert
from graphufs.cli.exchange.released import FromAnalysis, import_deepmind
from graphufs.cli.migrate import migrate
from graphufs.cli.models import app as models_app
from graphufs.cli.scores.compare import compare
from graphufs.cli.scores.pressure_levels import pressure_levels
from graphufs.cli.scores.score import Engine, score
from graphufs.cli.terminal import console
from graphufs.config import loading
from graphufs.config.base import MOST_SEEDS
from graphufs.steps import CHAINS
from graphufs.storage.paths import Paths

app.command(models_app)
app.command(score)
app.command(migrate)
app.command(pressure_levels)
app.command(compare)
app.command(convert)
app.command(catalogue)
app.command(clean)
app.command(import_deepmind)


@app.command
def prepare(experiment: Path, *, options: Options = Options()) -> int:
    """Read the source and write the training-ready data.

    Copies the experiment's variables, levels and periods from the Replay store (or makes the embedded world) into one
    packed store under ROOT/data. Resumes after an interruption; stamps with missing values are listed and never trained
    on.
    """
    return _steps(experiment, options, "prepare")


@app.command
def normalize(experiment: Path, *, options: Options = Options()) -> int:
    """Compute mean, standard deviation and standard deviation of differences.

    Written under ROOT/statistics as the three stores Replay users know. Needs `prepare`.
    """
    return _steps(experiment, options, "normalize")


@app.command
def train(experiment: Path, *, options: Options = Options()) -> int:
    """Train the emulator, stage by stage.

    Writes checkpoints and metrics.jsonl into the run folder and goes on from the last checkpoint. Needs `prepare` and
    `normalize`.
    """
    return _steps(experiment, options, "train")


@app.command
def forecast(experiment: Path, *, from_analysis: FromAnalysis = FromAnalysis(), options: Options = Options()) -> int:
    """Roll the trained emulator out from every initial time.

    Writes a zarr store in the layout WeatherBench2's own tools read. Needs `train`. With --analysis, EXPERIMENT is a
    checkpoint folder, such as `import-deepmind` makes, and nothing else is needed.
    """
    if from_analysis.asked:
        return from_analysis.run(experiment, as_json=options.json_)
    return _steps(experiment, options, "forecast")


@app.command
def evaluate(experiment: Path, *, engine: Engine = "graphufs", options: Options = Options()) -> int:
    """Score the forecasts against Replay, ERA5 or both, and print a table for each. Needs `forecast`.

    Parameters
    ----------
    engine
        weatherbench2 runs the official package too, where it is installed, and prints both scores and how far they
        differ.
    """
    if engine == "weatherbench2":
        from graphufs.weatherbench.official.engine import require

        require()
    code = _steps(experiment, options, "evaluate")
    if engine == "weatherbench2" and code == DONE:
        from graphufs.weatherbench.official.experiment import compare

        loaded = options.load(experiment)
        shown = console(stderr=options.json_)
        for truth in loaded.evaluation.truths:
            shown.print(compare(loaded, options.folder(), truth))
    return code


@app.command
def publish(experiment: Path, *, options: Options = Options()) -> int:
    """Write the forecasts in the formats of forecast.products, for other tools, under ROOT/published. Needs `forecast`.

    Each initial time has a folder, by date and hour, which appears whole. What is published already stays as it is.
    """
    return _steps(experiment, options, "publish")


@app.command
def report(experiment: Path, *, options: Options = Options()) -> int:
    """Write the one-page HTML report. Needs `evaluate`."""
    return _steps(experiment, options, "report")


@app.command
def register(experiment: Path, *, champion: str | None = None, options: Options = Options()) -> int:
    """Enter the trained model and its scores in the registry, as a candidate. Needs `evaluate`.

    Parameters
    ----------
    champion
        Of a planned challenger: the model that it is to be compared with.
    """
    return run_one(experiment, options, "register", champion=champion)


@app.command
def run(experiment: Path, *, options: Options = Options()) -> int:
    """Do everything from data to report, skipping what is done."""
    return _steps(experiment, options, *CHAINS["run"])


@app.command
def track(experiment: Path, *, options: Options = Options()) -> int:
    """Send to MLflow what it has not got of an ended training, tracked or not.

    To the server that MLFLOW_TRACKING_URI names, else to ROOT/mlflow. Exit code 1: something could not be sent.
    """
    from graphufs.train.tracking.tracking import send_by_hand

    warnings = send_by_hand(Paths(options.load(experiment), options.folder()))
    if options.json_:
        print(json.dumps({"warnings": warnings}, indent=2))
    for warning in warnings:
        console(stderr=True).print(warning, style="yellow", soft_wrap=True)
    return FAILED if warnings else DONE


@app.command
def check(
    experiment: Path, *, thorough: Annotated[bool, Parameter(negative=())] = False, options: Options = Options()
) -> int:
    """Look at an experiment and its source, and say what would go wrong before anything runs.

    Parameters
    ----------
    thorough
        Instead of that, read again what was made of it below the root (the embedded world, data, statistics,
        climatology, checkpoints, forecasts, scores, the run's log and reports, what is published, the registry), name
        what is damaged, and what repairs it. Exit code 1: something is.
    """
    loaded = options.load(experiment)
    damaged: list[str] = []
    if thorough:
        from graphufs.cli.verify import verify

        verified = verify(loaded, options.folder())
        damaged, old = verified.damaged, [str(path) for path in verified.unchecked]
        facts: dict[str, Any] = {k: f"{n} read, {size / 2**20:.1f} MiB" for k, (n, size) in verified.kinds.items()}
        if old:  # complete, and decoded
            facts["without checksums"] = old if options.json_ else "".join(f"\n  {path}" for path in old)
        facts["damaged"] = damaged if options.json_ else "".join(f"\n  {line}" for line in damaged) or "nothing"
    else:
        from graphufs.cli.later_steps import check_later_steps
        from graphufs.data import preflight

        store, selection = preflight.look(loaded, options.folder())
        check_later_steps(loaded, options.folder(), store, selection)
        facts = preflight.facts(loaded, store, selection)
    print(json.dumps(facts, indent=2) if options.json_ else "\n".join(f"{name}: {facts[name]}" for name in facts))
    if damaged:
        print("Repeat the command that each line names, with the experiment that it was made with.", file=sys.stderr)
    return FAILED if damaged else DONE


@app.command
def show(experiment: Path, *, options: Options = Options()) -> int:
    """Print the experiment with every default written out, and where its parts lie or will lie."""
    loaded = options.load(experiment)
    paths = Paths(loaded, options.folder())
    places = {
        "data": paths.data,
        "statistics": paths.statistics(),
        "run": paths.run,
        "forecasts": paths.forecasts,
        "scores": paths.scores,
        "report": paths.report,
    }
    if options.json_:
        content = {"experiment": loaded.model_dump(mode="json"), "places": {k: str(v) for k, v in places.items()}}
        print(json.dumps(content, indent=2))
        return DONE
    print(loading.dump(loaded))
    for name, place in places.items():
        print(f"{name:<11} {'there  ' if place.exists() else 'not yet'}  {place}")
    return DONE


@app.command
def crosscheck(
    checkpoint: Path,
    *,
    seed: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=MOST_SEEDS))] = 0,
    json_: Json = False,
) -> int:
    """Compare a checkpoint's network with DeepMind's own on the same input, channel by channel.

    Needs DeepMind's package. Exit code 1: the two differ.
    """
    from graphufs.deepmind.crosscheck import crosscheck as against_official

    result = against_official(checkpoint, seed)
    if json_:
        print(json.dumps(result.to_json(), indent=2))
    else:
        console().print(result.table())
    return DONE if result.agrees else FAILED


@app.command
def export(checkpoint: Path, file: Path, *, license: str = "", json_: Json = False) -> int:
    """Write a checkpoint's parameters as one file in DeepMind's npz format (its statistics are not part of it)."""
    from graphufs.deepmind.export import export as write
    from graphufs.emulator.emulator import ReplayEmulator

    written = write(ReplayEmulator.from_checkpoint(checkpoint), file, license)
    if json_:
        print(json.dumps({"model_config": written.model_config, "task_config": written.task_config}, indent=2))
    else:
        print(f"{file}: {written.description}")
    return DONE


@app.command
def schema() -> int:
    """Print the JSON Schema of experiments."""
    print(loading.json_schema())
    return DONE


def _steps(path: Path, options: Options, *names: str) -> int:
    experiment, request = options.load_run(path)
    root = options.folder()
    code = run_steps(names, experiment, root, request=request, as_json=options.json_)
    paths = Paths(experiment, root)
    if code == DONE and not options.json_:
        if "evaluate" in names:
            from graphufs.weatherbench.results.scores import Scores
            from graphufs.weatherbench.results.table import score_table

            for truth in experiment.evaluation.truths:
                console().print(score_table(Scores.open(paths.scores_against(truth))))
        if "report" in names:
            print(f"Report: {paths.report}")
    return code


GROUPS = {
    "From data to report": "run check show plan prepare normalize train forecast evaluate report register track",
    "Scores of any forecasts": "score compare pressure-levels",
    "Models and nights": "models nightly plan-nightly record-nightly extend-world",
    "Retraining": "retrain plan-retraining compare-models decide rollback",
    "Exchange": "publish convert catalogue import-deepmind export crosscheck",
    "Tools": "clean migrate schema",
}
"""How `graphufs --help` shows the commands: by what they are for, in the order in which they are met."""
for _place, (_title, _names) in enumerate(GROUPS.items(), 1):
    _group = Group(_title, sort_key=_place)
    for _order, _name in enumerate(_names.split(), 1):
        app[_name].group, app[_name].sort_key = (_group,), _order


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    finish(lambda given: app(given, result_action="return_value", exit_on_error=False, print_error=False), arguments)


if __name__ == "__main__":
    main()
