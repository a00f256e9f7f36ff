"""The step `compare_models`: challenger and champion on the same fresh initial times, and what the rule says of them.

Both are forecast and scored as ever, below their own run folders; the challenger is registered as a candidate whose
parent is the champion. The evidence lies in the challenger's run folder, named by what it compares:

    comparisons/<champion>-<hash of the scores>.json    decision, why, findings, instabilities
                                               .html    scorecard and differences with their intervals, all leads
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.config import credentials, loading
from graphufs.config.base import format_time
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.config.retraining import NamedScore
from graphufs.errors import Stopped, UserError
from graphufs.registry import registry
from graphufs.registry.model_experiment import experiment_of
from graphufs.report.comparison_page import render
from graphufs.retraining.decide import NO_PLAN, evidence_file
from graphufs.retraining.long_rollout import instabilities
from graphufs.retraining.rule import ComparedScore, judge
from graphufs.retraining.scorecard import scorecard
from graphufs.steps import STEPS, Progress, ShouldStop, run_step
from graphufs.storage import run_files
from graphufs.storage.checksums import checked_text
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import open_zarr
from graphufs.vocabulary.variables import weatherbench_name
from graphufs.weatherbench.compare.comparison import Side, compare
from graphufs.weatherbench.compare.significance import score_difference
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.references import open_climatology
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.score import FORECAST


def run(
    experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop, request: Request
) -> dict[str, Any]:
    """Compare the experiment's model, a planned challenger, with its champion; see graphufs.steps.Run.

    Raises
    ------
    UserError
        If this is no plan of `plan_retraining`, a model cannot be used, or a named score does not exist.
    Stopped
        After a polite stop; what is forecast and scored is kept.
    """
    if request.champion is None or experiment.forecast.initial_times is None:
        raise UserError(NO_PLAN)
    champion = registry.get(Path(root), request.champion)
    own = experiment_of(champion, experiment, experiment.forecast.initial_times)

    def take(step: str, of: Experiment) -> dict[str, Any]:
        asked = request.only(STEPS[step].asks)
        result = run_step(step, of, root, progress=progress, should_stop=should_stop, request=asked)
        if result["status"] == "stopped":
            raise Stopped(str(result["message"]))
        return result

    scores = []
    for one in (experiment, own):
        for step in ("prepare", "forecast", "evaluate"):
            take(step, one)
        scores.append(Scores.open(Paths(one, root).scores))
    challenger = take("register", experiment)["model"]
    paths = Paths(experiment, root)
    rollout = _long_rollout(experiment)
    take("forecast", rollout)
    unstable = instabilities(
        open_zarr(Paths(rollout, root).forecasts),
        open_climatology(scores[0], experiment, paths),
        experiment.retraining.stability,
    )
    findings = compared(experiment, *scores)
    decision, why = judge(findings, unstable, experiment.retraining)
    evidence = {
        "challenger": challenger,
        "champion": champion.id,
        "decision": decision,
        "why": why,
        "metric": experiment.retraining.metric,
        "initial_times": [format_time(time) for time in experiment.initial_times],
        "findings": [one.to_json() for one in findings],
        "unstable": unstable,
        "rollout_hours": rollout.forecast.lead_time,
        "rule": experiment.retraining.model_dump(mode="json"),
    }
    path = evidence_file(paths, champion.id)
    sides = Side(challenger, scores[0]), Side(champion.id, scores[1])
    page = render(compare(*sides, experiment.retraining.metric, level=experiment.retraining.level), scores[0])
    for file, text in ((path.with_suffix(".html"), page), (path, checked_text(evidence))):
        run_files.keep(paths.run, file.relative_to(paths.run).as_posix(), text)
    return {
        "status": "completed",
        "model": challenger,
        "champion": champion.id,
        "decision": decision,
        "why": why,
        "scorecard": scorecard(evidence),
        "evidence": path.relative_to(paths.root).as_posix(),
        "message": f"{decision}: {why}",
    }


def compared(experiment: Experiment, challenger: Scores, champion: Scores) -> list[ComparedScore]:
    """The named scores of both, paired by initial time.

    Raises
    ------
    UserError
        If a named score was not scored, or the scores do not fit together.
    """
    rule = experiment.retraining
    states = challenger.states()[FORECAST], champion.states()[FORECAST]
    found = score_difference(*states, rule.metric, level=rule.level)
    axes = states[0].axes
    region = axes.regions.index("global") if "global" in axes.regions else 0
    findings = []
    for named in rule.scores or _all(experiment, challenger):
        channel = Channel(weatherbench_name(named.variable), named.level)
        lead = np.timedelta64(named.lead, "h")
        if channel not in axes.channels or lead not in axes.leads:
            known = ", ".join(
                f"{one.variable}{'' if one.level is None else f' {one.level:g}'}" for one in axes.channels
            )
            raise UserError(
                f"retraining.scores names {channel.variable} {channel.level} at {named.lead}h, which was not scored; "
                f"scored are {known} up to {experiment.forecast.lead_time}h"
            )
        where = (list(axes.leads).index(lead), axes.channels.index(channel), region)
        findings.append(
            ComparedScore(
                channel.variable,
                channel.level,
                f"{named.lead}h",
                challenger.unit(channel).name,
                champion.at(rule.metric, FORECAST, channel, lead),
                challenger.at(rule.metric, FORECAST, channel, lead),
                float(found.low[where]),
                float(found.high[where]),
                float(found.p_value[where]),
            )
        )
    return findings


def _all(experiment: Experiment, scores: Scores) -> list[NamedScore]:
    """Each target at the longest lead time."""
    lead = f"{experiment.forecast.lead_time}h"
    return [
        NamedScore.model_validate({"variable": one.variable, "level": one.level, "lead": lead})
        for one in scores.channels
    ]


def _long_rollout(experiment: Experiment) -> Experiment:
    """One forecast (of an ensemble, of its first member) from the first initial time to the end of the data."""
    times = experiment.initial_times
    hours = (times[-1] - times[0]) // timedelta(hours=1) + experiment.forecast.lead_time
    content = credentials.content(experiment)
    one = {"members": 1, "checkpoints": [], "keep_members": True}
    content["forecast"] |= {"initial_times": [format_time(times[0])], "lead_time": f"{hours}h", **one}
    content["retraining"]["metric"] = "rmse"  # one member has no score of members, and nothing is scored here
    return loading.validate(Experiment, content, "the long rollout is wrong", "graphufs schema")
