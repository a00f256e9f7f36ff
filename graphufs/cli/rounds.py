"""The commands that register a model, do nights and rounds of retraining, and what somebody may ask of such a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from cyclopts import Parameter

from graphufs.cli.app import Options, app, exit_code, run_steps, take
from graphufs.steps import CHAINS


@Parameter(name="*")
@dataclass(frozen=True)
class Answer:
    """What a person says who was asked."""

    answer: Literal["promote", "hold"] | None = None
    """Where the rule asks a person: promote the challenger, or hold."""
    decided_by: str | None = None
    """Who decides, for the registry's history. [default: the account]"""
    why: str | None = None
    """Why, for the history."""


@app.command
def register(experiment: Path, *, champion: str | None = None, options: Options = Options()) -> int:
    """Enter the trained model and its scores in the registry, as a candidate. Needs `evaluate`.

    Parameters
    ----------
    champion
        Of a planned challenger: the model that it is to be compared with.
    """
    return _step(experiment, options, "register", champion=champion)


@app.command
def extend_world(experiment: Path, *, night: date | None = None, options: Options = Options()) -> int:
    """Let a night pass in the embedded world: its store goes on by nightly.days_per_night.

    Parameters
    ----------
    night
        Which night this is, as in 2026-03-01. [default: today, UTC]
    """
    return _step(experiment, options, "extend_world", night=night)


@app.command
def plan_nightly(experiment: Path, *, model: str | None = None, options: Options = Options()) -> int:
    """Choose the model and the initial times of a night: those with data that it has not been scored on.

    The result's `experiment` is what the night's `prepare`, `forecast`, `evaluate` and `record-nightly` are given.

    Parameters
    ----------
    model
        champion (the newest candidate while there is none), latest, or the id of a model. [default: champion]
    """
    return _step(experiment, options, "plan_nightly", model=model)


@app.command
def record_nightly(experiment: Path, *, options: Options = Options()) -> int:
    """Add the scores of a planned night to those of the nights before, and refresh the report. Needs `evaluate`."""
    return _step(experiment, options, "record_nightly")


@app.command
def nightly(
    experiment: Path, *, night: date | None = None, model: str | None = None, options: Options = Options()
) -> int:
    """Do a whole night: let time pass in the embedded world, plan, prepare, forecast, evaluate and record.

    Initial times wait for other nights where there are more than nightly.at_most; repeat the command to go on.

    Parameters
    ----------
    night
        Which night this is, as in 2026-03-01. [default: today, UTC]
    model
        champion (the newest candidate while there is none), latest, or the id of a model. [default: champion]
    """
    loaded, request = options.load_run(experiment, night=night, model=model)
    root = options.folder()
    results = take(CHAINS["nightly"], loaded, root, request=request)
    if not options.json_ and "report" in results[-1]:
        print(f"Report: {root / results[-1]['report']}")
    return exit_code(results, options.json_)


@app.command
def plan_retraining(experiment: Path, *, options: Options = Options()) -> int:
    """Choose the windows of a challenger, and the fresh initial times on which it will meet the champion.

    The result's `experiment` is what the round's other steps are given, and its `champion` is --champion for them.
    """
    return _step(experiment, options, "plan_retraining")


@app.command
def compare_models(experiment: Path, *, champion: str | None = None, options: Options = Options()) -> int:
    """Forecast and score a planned challenger and its champion on the same initial times, and apply the rule.

    Parameters
    ----------
    champion
        The model that `plan-retraining` named.
    """
    return _step(experiment, options, "compare_models", champion=champion)


@app.command
def decide(
    experiment: Path, *, champion: str | None = None, answer: Answer = Answer(), options: Options = Options()
) -> int:
    """Promote, hold or refuse a compared challenger, as the rule says or (--answer) who was asked.

    Parameters
    ----------
    champion
        The model that `plan-retraining` named.
    """
    return _step(experiment, options, "decide", champion=champion, **asdict(answer))


@app.command
def rollback(
    experiment: Path,
    *,
    to: str | None = None,
    why: str | None = None,
    decided_by: str | None = None,
    options: Options = Options(),
) -> int:
    """Make the former champion of the experiment's name the champion again; as `graphufs models rollback`.

    Parameters
    ----------
    to
        The id of a former champion. [default: the one before the present champion]
    why
        Why, for the registry's history.
    decided_by
        Who decides, for the history. [default: the account]
    """
    return _step(experiment, options, "rollback", rollback_to=to, why=why, decided_by=decided_by)


@app.command
def retrain(experiment: Path, *, answer: Answer = Answer(), options: Options = Options()) -> int:
    """Do a whole round: plan, prepare, normalize, train the challenger, compare it with the champion, and decide.

    Where the rule asks a person, it ends before the decision; repeat it with --answer promote or --answer hold.
    """
    loaded, request = options.load_run(experiment, **asdict(answer))
    root = options.folder()

    def asks(result: dict[str, Any]) -> bool:
        return request.answer is None and result.get("decision") == "ask"

    results = take(CHAINS["retrain"], loaded, root, asks, request=request)
    if not options.json_:
        print(results[-1].get("scorecard") or results[-1].get("message") or "")
    return exit_code(results, options.json_)


def _step(path: Path, options: Options, name: str, **asked: Any) -> int:
    experiment, request = options.load_run(path, **asked)
    return run_steps([name], experiment, options.folder(), request=request, as_json=options.json_)
