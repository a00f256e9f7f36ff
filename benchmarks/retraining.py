r"""Rounds of retraining over a growing record of the embedded world: what was decided, on what evidence, in what time.

Trains the experiment's model and makes it the champion, then lets the record go on and retrains, round after round, as
`graphufs retrain` does. The rule is the experiment's; where it would ask a person, `--answer` does.

    python benchmarks/retraining.py experiments/demo.yaml --root retraining --rounds 3 --days 180 \
        --set retraining.training_days=365 retraining.validation_days=30
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from graphufs.config import loading
from graphufs.config.data import EMBEDDED
from graphufs.config.experiment import Experiment
from graphufs.registry import registry
from graphufs.registry.decisions import promote
from graphufs.replay.synthetic.store import ensure_world
from graphufs.steps import CHAINS, run_step
from graphufs.storage.paths import Paths


def first_champion(experiment: Experiment, root: Path) -> None:
    """Train and evaluate the experiment's own model, and make it the champion."""
    for step in CHAINS["run"][:-1]:
        run_step(step, experiment, root)
    promote(root, run_step("register", experiment, root)["model"], "the benchmark", "the first one")


def round_of(experiment: Experiment, root: Path, answer: str) -> dict[str, Any]:
    """One round; the decision with its evidence, or why there was none."""
    plan = run_step("plan_retraining", experiment, root)
    if plan["experiment"] is None:
        return {"decision": "none", "why": plan["message"]}
    planned, request = loading.parse(plan["experiment"]), loading.request(plan["request"])
    for step in ("prepare", "normalize", "train"):
        run_step(step, planned, root)
    compared = run_step("compare_models", planned, root, request=request)
    decided = run_step("decide", planned, root, request=request | loading.request({"answer": answer}))
    evidence = json.loads((root / compared["evidence"]).read_text())
    return {
        "decision": decided["decision"],
        "why": compared["why"],
        "training": plan["training"],
        "initial_times": len(evidence["initial_times"]),
        "change": {f"{one['variable']} {one['level'] or ''}".strip(): one["change"] for one in evidence["findings"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--days", type=int, default=30, help="by which the record goes on before each round")
    parser.add_argument("--start", help="end of the record before the first round's days (default: the evaluation's)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides")
    parser.add_argument("--answer", choices=("promote", "hold"), default="promote")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    experiment = loading.load(options.experiment, options.overrides)
    if experiment.data.source.url != EMBEDDED:
        parser.error("only the embedded world can be made to go on")
    root = options.root.absolute()
    root.mkdir(parents=True, exist_ok=True)
    first_champion(experiment, root)
    end = np.datetime64(options.start or experiment.data.evaluation.end, "h")
    table = Table("round", "record up to", "decision", "mean change", "initial times", "seconds", "champion")
    rounds = []
    for number in range(1, options.rounds + 1):
        end += np.timedelta64(timedelta(days=options.days))
        ensure_world(Paths(experiment, root).world, experiment.data.source.world, end, exact=True)
        began = time.monotonic()
        found = round_of(experiment, root, options.answer)
        found |= {"round": number, "record": str(end.astype("datetime64[h]")), "seconds": time.monotonic() - began}
        champion = registry.champion(root, experiment.name)
        found["champion"] = None if champion is None else champion.id
        rounds.append(found)
        changes = list(found.get("change", {}).values())
        change = f"{100 * float(np.mean(changes)):+.1f} %" if changes else "–"
        seconds = f"{found['seconds']:.0f}"
        count = str(found.get("initial_times", "–"))
        table.add_row(str(number), found["record"], found["decision"], change, count, seconds, found["champion"])
        print(f"round {number}: {found['decision']}: {found['why']}", flush=True)
    Console(width=140).print(table)
    if options.json:
        options.json.write_text(json.dumps(rounds, indent=2) + "\n")


if __name__ == "__main__":
    main()
