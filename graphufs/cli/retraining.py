"""The commands that do a round of retraining, and its steps, and what a person may answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cyclopts import Parameter

from graphufs.cli.app import Options, app, exit_code, run_one, take
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
def plan_retraining(experiment: Path, *, options: Options = Options()) -> int:
    """Choose the windows of a challenger, and the fresh initial times on which it will meet the champion.

    The result's `experiment` is what the round's other steps are given, and its `champion` is --champion for them.
    """
    return run_one(experiment, options, "plan_retraining")


@app.command
def compare_models(experiment: Path, *, champion: str | None = None, options: Options = Options()) -> int:
    """Forecast and score a planned challenger and its champion on the same initial times, and apply the rule.

    Parameters
    ----------
    champion
        The model that `plan-retraining` named.
    """
    return run_one(experiment, options, "compare_models", champion=champion)


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
    return run_one(experiment, options, "decide", champion=champion, **asdict(answer))


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
    return run_one(experiment, options, "rollback", rollback_to=to, why=why, decided_by=decided_by)


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
