"""The commands on registered models: `graphufs models list | show | compare | promote | rollback | repair`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from graphufs.cli.terminal import console
from graphufs.registry import event_files, registry
from graphufs.registry.registry import RegisteredModel, RegistryEvent
from graphufs.storage.paths import root_folder

app = App(name="models", help="See the registered models of a root: candidates, champions, and retired ones.")


WIDTH = 160
"""Columns of the tables: a row stays one line for those who look for something in it."""


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Which registry, and how to print."""

    root: Annotated[Path | None, Parameter(name="--root")] = None
    """The root folder. [default: $GRAPHUFS_ROOT, else ./graphufs-root]"""
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False
    """Print JSON."""


@app.command(name="list")
def list_(experiment: str | None = None, *, where: Where = Where()) -> int:
    """List all models, or those of an experiment name, the newest last."""
    root, damaged = root_folder(where.root), list[str]()
    models = registry.models(root, experiment, damaged)
    damaged += [f"{path} is no event of the registry by its name and not read" for path in event_files.odd(root)]
    for line in damaged:
        console(stderr=True).print(Text(f"warning: {line}", "yellow"), soft_wrap=True)
    if where.json_:
        print(json.dumps([asdict(model) for model in models], indent=2))
        return 0
    if not models:
        print("no models yet; `graphufs register EXPERIMENT` enters one")
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("model", "role", "registered", "training", "initial times"):
        table.add_column(name, no_wrap=True)
    for model in models:
        count = str(model.scores.get("initial_times", ""))
        table.add_row(model.id, model.role, model.registered, model.periods.get("training", ""), count)
    console(width=WIDTH).print(table)
    return 0


@app.command
def show(model: str, *, where: Where = Where()) -> int:
    """Show a model: what it was made from, its scores, and what happened to it."""
    root = root_folder(where.root)
    found = registry.get(root, model)
    events = [event for event in registry.history(root) if event.model == found.id]
    if where.json_:
        past = [{name: value for name, value in asdict(event).items() if name != "content"} for event in events]
        print(json.dumps({**asdict(found), "history": past}, indent=2))
        return 0
    shown = console(width=WIDTH)
    for name, value in {**_facts(found), **_costs(found, registry.history(root))}.items():
        shown.print(Text.assemble((f"{name:<13}", "bold"), f" {value}"))
    for event in events:
        shown.print(f"{event.when}  {event.kind} by {event.by}" + (f": {event.why}" if event.why else ""))
    shown.print(_scores(found))
    if "crps" in found.scores:
        shown.print(_scores(found, "crps"))
    return 0


@app.command
def compare(model: str, other: str | None = None, *, where: Where = Where()) -> int:
    """Show how a model was held against champions; or compare it with another one, as `graphufs compare` does."""
    from graphufs.retraining.scorecard import comparisons, scorecard

    root = root_folder(where.root)
    found = registry.get(root, model)
    if other is not None:
        from graphufs.cli.scores.compare import compare as compared

        return compared(found.id, registry.get(root, other).id, root=root, json_=where.json_)
    past = comparisons(registry.history(root), found.id)
    if where.json_:
        print(json.dumps(past, indent=2))
    elif not past:
        print(f"{found.id} was not held against a champion yet; name another model to compare it with")
    else:
        print("\n\n".join(scorecard(one) for one in past))
    return 0


@app.command
def promote(model: str, *, why: str, where: Where = Where()) -> int:
    """Make a model the champion of its experiment name; the former champion retires. `--why` goes into the history."""
    from graphufs.registry.decisions import promote as promoted

    root = root_folder(where.root)
    event = promoted(root, model, registry.whoever(), why)
    print(f"{model} is the champion {'now' if event else 'already'}")
    return 0


@app.command
def rollback(experiment: str, *, to: str | None = None, why: str = "", where: Where = Where()) -> int:
    """Make the former champion of an experiment name the champion again, or the one that `--to` names."""
    from graphufs.registry.decisions import rollback as rolled_back

    root = root_folder(where.root)
    event = rolled_back(root, experiment, registry.whoever(), why, to)
    champion = registry.champion(root, experiment)
    print(f"{champion.id if champion else 'no model'} is the champion {'again' if event else 'already'}")
    return 0


@app.command
def repair(*, where: Where = Where()) -> int:
    """Restore damaged or lost events of the registry from their copies, and lost copies from the events."""
    root = root_folder(where.root)
    written = event_files.repair(root)
    registry.models(root)
    for path in written:
        print(f"restored {path}")
    print(f"{len(event_files.numbers(root))} events are whole")
    return 0


def _facts(model: RegisteredModel) -> dict[str, Any]:
    made = model.provenance
    return {
        "model": model.id,
        "role": model.role,
        "experiment": model.experiment_name,
        "checkpoint": f"{model.run_folder}/checkpoints/{model.checkpoint}",
        "parent": model.parent or "none",
        **({"taken from": _origin(taken)} if (taken := made.get("taken_from")) else {}),
        **model.periods,
        "code": f"{made.get('commit') or 'outside a checkout'}, {made.get('created', '')}",
    }


def _origin(taken: Mapping[str, Any]) -> str:
    """Where a model comes from that was not trained here."""
    known = ("file", "sha256", "license", "run", "update")
    return ", ".join(f"{name} {taken[name]}" for name in known if taken.get(name) not in (None, ""))


def _costs(model: RegisteredModel, history: Sequence[RegistryEvent]) -> dict[str, str]:
    """What a model's training used, and what it gained on its parent for that."""
    from graphufs.retraining.scorecard import gain

    units = {"gpu_hours": "GPU-hours", "queue_wait": "s in the queue", "elapsed": "s", "energy": "kWh"}
    known = [f"{model.cost[name]:g} {unit}" for name, unit in units.items() if model.cost.get(name) is not None]
    lines = {"cost": ", ".join(known)} if known else {}
    better, hours = gain(history, model.id), model.cost.get("gpu_hours")
    if better is not None:
        each = f", {better / hours:.3g} % per GPU-hour" if hours else ""
        lines["gain"] = f"{better:.2g} % lower error than the champion's it was held against{each}"
    return lines


def _scores(model: RegisteredModel, score: str = "rmse") -> Table:
    """A score by target and lead, the forecasts of the model first."""
    scores = model.scores
    named = ("variable", "level", "units")
    leads = list(next((values for name, values in scores[score][0].items() if name not in named), {}))
    of = f" of {scores['members']} members" if score == "crps" else " of their mean" if "members" in scores else ""
    title = f"{score.upper()}{of} over {scores['initial_times']} initial times, {scores['period']}, {scores['grid']}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("target", "forecast", *leads):
        table.add_column(heading, justify="left" if heading in ("target", "forecast") else "right")
    for entry in scores[score]:
        level = "" if entry["level"] is None else f" {entry['level']:g}"
        target = f"{entry['variable']}{level} ({entry['units']})"
        for name in (name for name in entry if name not in named):
            table.add_row(target, name, *("–" if value is None else f"{value:g}" for value in entry[name].values()))
            target = ""
    return table
