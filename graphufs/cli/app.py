"""What the commands of `graphufs` share: the application, its options and exit codes, and taking steps one by one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.text import Text

from graphufs.cli.ending import DONE, STOPPED
from graphufs.cli.terminal import Bars, console, polite_stop
from graphufs.config import credentials, loading, moved_keys
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.steps import NOTHING_ASKED, STEPS, run_step, with_products
from graphufs.storage.lock import unless_empty
from graphufs.storage.paths import root_folder

app = App(
    name="graphufs",
    help="""Train and score a GraphCast-like emulator of NOAA's UFS Replay.

    An experiment is one YAML file. `graphufs run experiments/demo.yaml` does everything from data to report; the
    single steps do a part. What is done already is not done again, and anything may be interrupted: repeat the
    command and it goes on.

    Exit codes: 0 done, 1 failed, 2 bad input, 75 stopped politely (repeat the command to go on). With --debug an error
    shows where in the program it arose.
    """,
)


Json = Annotated[bool, Parameter(name="--json", negative=())]


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """What every command on an experiment takes."""

    root: Annotated[Path | None, Parameter(name="--root")] = None
    """Folder for everything that is made. [default: $GRAPHUFS_ROOT, else ./graphufs-root]"""
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = ()
    """Override a key of the experiment, as in --set training.batch_size=8. May be repeated."""
    init_from: Annotated[Path | None, Parameter(name="--init-from")] = None
    """Start the training from these weights: a checkpoint folder, or a file in DeepMind's npz format. Another training
    than without: name it to `forecast`, `evaluate` and `report` too, or write it as training.init_from in the file."""
    partial: Annotated[bool, Parameter(name="--partial", negative=())] = False
    """With --init-from: leave the inputs and outputs of those weights behind that the experiment has not."""
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False
    """Print the result as JSON and nothing else on standard output."""

    def folder(self) -> Path:
        """The root folder asked for."""
        return root_folder(self.root)

    def load(self, experiment: Path) -> Experiment:
        """The experiment of a file or a shipped name, with the overrides asked for."""
        return self._load(experiment)[0]

    def load_run(self, experiment: Path, **asked: Any) -> tuple[Experiment, Request]:
        """The same for a run of steps, and what is asked of it by fields of the request, those that are None not."""
        loaded, former = self._load(experiment)
        for hint in moved_keys.hints(former):
            console(stderr=True).print(hint, style="yellow", soft_wrap=True)
        return loaded, former | loading.request(asked)

    def _load(self, experiment: Path) -> tuple[Experiment, Request]:
        overrides = list(self.set_)
        if self.init_from is not None:  # JSON is YAML: any path survives
            overrides.append(f"training.init_from={json.dumps(str(self.init_from.expanduser().absolute()))}")
        if self.partial:
            overrides.append("training.init_partial=true")
        return loading.run_of(str(experiment), overrides)


def run_steps(
    names: Sequence[str],
    experiment: Experiment,
    root: Path,
    *,
    request: Request = NOTHING_ASKED,
    as_json: bool = False,
) -> int:
    """Run steps one after the other with progress on the terminal, and return the exit code."""
    return exit_code(take(names, experiment, root, request=request), as_json)


def exit_code(results: list[dict[str, Any]], as_json: bool) -> int:
    """The exit code after these results, which are printed first where JSON is asked for."""
    if as_json:
        print(json.dumps(results, indent=2))
    return STOPPED if results and results[-1]["status"] == "stopped" else DONE


def run_one(path: Path, options: Options, name: str, **asked: Any) -> int:
    """Run one step of the experiment at a path with what is asked of it, and return the exit code."""
    experiment, request = options.load_run(path, **asked)
    return run_steps([name], experiment, options.folder(), request=request, as_json=options.json_)


def take(
    names: Sequence[str],
    experiment: Experiment,
    root: Path,
    ends: Callable[[dict[str, Any]], bool] = lambda result: False,
    *,
    request: Request = NOTHING_ASKED,
) -> list[dict[str, Any]]:
    """The results of steps taken one after the other, those after a plan with the experiment that it planned.

    Each is given what it reads of the request, to which a plan may add something. Forecasts with products are published
    before the next step.

    It ends early with a step that is `stopped`, with a plan that has found nothing to do, and where `ends` says so of a
    result.
    """
    # A restarted step finds its compiled programs again. JAX reads this when it is first imported.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / "cache" / "jax"))
    shown = console(stderr=True)
    results: list[dict[str, Any]] = []
    with unless_empty(root), polite_stop(shown) as should_stop:
        for name in with_products(names, experiment):
            with Bars(shown, name) as bars:
                own = request.only(STEPS[name].asks)
                result = run_step(name, experiment, root, progress=bars, should_stop=should_stop, request=own)
            results.append(result)
            _tell(shown, result)
            if result["status"] == "stopped" or ends(result):
                break
            if STEPS[name].plans:
                if result.get("experiment") is None:
                    break
                planned = loading.parse(result["experiment"], origin=f"the plan of {name}")
                experiment = credentials.with_those_of(planned, experiment)
                request |= loading.request(result.get("request"))
    return results


def _tell(shown: Console, result: dict[str, Any]) -> None:
    words = {"completed": "done", "unchanged": "was done already", "stopped": "stopped"}[result["status"]]
    style = {"stopped": "yellow"}.get(result["status"], "green")
    shown.print(Text.assemble((result["step"], style), f" {words}"))
    if result["status"] != "stopped" and "message" in result:
        shown.print(f"  {result['message']}", soft_wrap=True)
    for warning in result.get("warnings", ()):
        shown.print(f"  {warning}", style="yellow")
