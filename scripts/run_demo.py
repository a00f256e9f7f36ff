#!/usr/bin/env python3
"""The demo: a private Airflow takes experiments/demo.yaml from data to a night's scores, on this machine.

`make demo` sets up what it needs and runs it. It starts the Airflow of the root folder, triggers normalization,
training and nightly_evaluation through the public API, follows them, prints the scores beside the demo's bar, and stops
what it started. What is done is not done again; after an interruption it goes on. Exit codes: 0 done and the bar met,
1 not, 2 bad input, 75 stopped politely.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))
from devstack.airflow.api import Api, ApiError
from devstack.airflow.follow import LINES, Follower, log_file, reason
from devstack.airflow.settings import TOP
from devstack.airflow.stack import Stack, StackError
from graphufs.cli.ending import BAD_INPUT, DONE, FAILED, STOPPED, finish
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.storage.atomic import write_json
from graphufs.storage.paths import Paths
from jobs.airflow.keys import PREFIX
from jobs.job.status import Status
from jobs.submission import tend as tending
from scripts.airflow_here import interruptible, living, running
from scripts.demo_pictures import first_map, forecasts_of, open_in_browser
from scripts.demo_runs import Run, runs
from scripts.demo_timings import Timings
from scripts.world_ahead import made_ahead

if TYPE_CHECKING:
    from graphufs.nightly.scores import NightlyScores

PARSING = 120.0
"""Seconds for Airflow to read the DAGs."""
FIRST_WAIT = 240
"""Seconds for which a task waits for a new job: any. There are workers for all, and looks from outside cost time."""


AHEAD = """The demo takes experiments/{name}.yaml from data to scores, through an Airflow of its own on this machine:
  normalization       makes the data of an idealised world, and their statistics
  training            trains an emulator on them, scores it, and makes it a candidate
  nightly_evaluation  forecasts and scores what the emulator has not seen
  At the end: a table, whether the emulator meets its bar, and a report to open.
The world begins to be made while Airflow is set up, and the job `prepare` waits for it.
About six minutes on two idle cores. Ctrl-C stops it; the same command goes on. Everything lies below {root}."""


class DemoFailed(Exception):
    """A run did not succeed; says why."""


def nights_of(experiment: Experiment, root: Path) -> NightlyScores | None:
    """The scores and the report of an experiment's nights, None where they are not there."""
    from graphufs.forecast.step import finished_checkpoint
    from graphufs.nightly.scores import NightlyScores

    paths = Paths(experiment, root)
    try:
        place = NightlyScores(paths.nightly(finished_checkpoint(paths).name))
    except UserError:  # not trained
        return None
    return place if place.store.exists() and place.report.is_file() else None


class Demo:
    """The demo of an experiment below a root; `first` are commands that make what Airflow needs."""

    def __init__(
        self,
        name: str,
        overrides: list[str],
        root: Path,
        console: Console,
        first: Sequence[str] = (),
        timings: Timings | None = None,
    ) -> None:
        self.name, self.overrides, self.root, self.console = name, overrides, root, console
        self.path = TOP / "experiments" / f"{name}.yaml"
        self.experiment = loading.load(self.path, overrides)
        self.note = root / "airflow" / "demo.json"
        self.first, self.timings = first, timings or Timings()

    def say(self, line: str) -> None:
        """Say something."""
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def run(self) -> int:
        """Do what is not done, and show the results; the exit code.

        Raises
        ------
        DemoFailed
            If all runs succeeded without scores, or one failed.
        """
        ids = [run.id for run in runs(self.experiment, self.root, self.name, self.overrides)]
        noted = json.loads(self.note.read_text()) if self.note.exists() else {}
        results = nights_of(self.experiment, self.root)
        if results is not None and noted.get("runs") == ids:
            self.say("All of it is done already; `make airflow` shows its runs.")
            return self.show(results)
        self.say(AHEAD.format(name=self.name, root=self.root))
        with self.airflow() as (stack, own):
            self.say(f"Airflow: {stack.url}, user admin, password in {stack.base / 'passwords.json'}")
            wanted: list[Run] = []
            try:
                for number in count(1):
                    wanted = runs(self.experiment, self.root, self.name, self.overrides, number)
                    # training waits for the data itself, and is ready when they are
                    new = self.do(stack, *wanted[:2]) + self.do(stack, *wanted[2:])
                    results = nights_of(self.experiment, self.root)
                    if results is not None:
                        break
                    if any(new):
                        raise DemoFailed(f"all runs succeeded, and there are no nightly scores below {self.root}")
                    self.say("Airflow's runs are done, but their results are gone: doing it again")
            except KeyboardInterrupt:
                if own:
                    self.stop_jobs(stack, wanted)
                else:
                    self.say(f"The runs go on in the Airflow at {stack.url}; cancel them there, or follow them again")
                return STOPPED
            except DemoFailed:
                if own and self.jobs_of(wanted):
                    self.stop_jobs(stack, wanted)
                raise
            for run in wanted:
                with suppress(ApiError, OSError, UserError, ValueError):  # no timing is worth a failure
                    self.timings.add_run(stack.api, self.root, run.dag, run.id)
            if own:
                self.say("Stopping Airflow")
        write_json(self.note, {"runs": ids, "timings": self.timings.phases})
        assert results is not None
        return self.show(results)

    @contextmanager
    def airflow(self) -> Iterator[tuple[Stack, bool]]:
        """The Airflow, and whether it is this process' own; what it needs is made first, and the world beside."""
        since = time.time()
        with made_ahead(self.path, self.experiment, self.overrides, self.root):
            self.make_first()
            self.timings.add("Airflow's environment", since, time.time())
            since = time.time()
            with running(self.root, self.say, borrow=True, first_wait=FIRST_WAIT) as found:
                self.timings.add("starting Airflow", since, time.time())
                yield found
                since = time.time()
        self.timings.add("stopping Airflow", since, time.time())

    def make_first(self) -> None:
        """Run the commands that make what Airflow needs, side by side.

        Raises
        ------
        DemoFailed
            If one fails.
        """
        processes = [subprocess.Popen(shlex.split(line), cwd=TOP) for line in self.first]
        try:
            for line, process in zip(self.first, processes, strict=True):
                if code := process.wait():
                    raise DemoFailed(f"`{line}` ended with {code}, as above")
        finally:
            for process in processes:
                if process.poll() is None:
                    process.terminate()
                    process.wait()

    def do(self, stack: Stack, *runs: Run) -> list[bool]:
        """Trigger runs that go side by side, or find them, and follow them to their good ends.

        Returns
        -------
        list of bool
            For each whether there was anything to do.

        Raises
        ------
        DemoFailed
            If one failed. One that failed in an earlier demo is tried again first.
        """
        with ExitStack() as at_the_end:
            begun = [self.begin(stack, run, at_the_end) for run in runs]
            for run, how in zip(runs, begun, strict=True):
                if how != "done":
                    self.follow(stack, run, again=how == "earlier")
        return [how != "done" for how in begun]

    def begin(self, stack: Stack, run: Run, at_the_end: ExitStack) -> Literal["done", "earlier", "new"]:
        """Trigger a run, or find it; its DAG is paused `at_the_end` if it was before."""
        api = stack.api
        self.wait_for(api, stack, run.dag)
        how: Literal["earlier", "new"] = "new"
        try:
            api.trigger(run.dag, run.conf, run.id)
        except ApiError as error:
            if error.status != 409:
                raise DemoFailed(f"Airflow refuses to run {run.dag}: {error}") from None
            if api.state(run.dag, run.id) == "success":
                self.say(f"{run.dag}: done already")
                return "done"
            how = "earlier"
        self.say(f"{run.dag}: {stack.url}/dags/{run.dag}/runs/{run.id}")
        if api.paused(run.dag):
            at_the_end.callback(api.pause, run.dag)
        api.unpause(run.dag)
        return how

    def follow(self, stack: Stack, run: Run, *, again: bool) -> None:
        """Follow a run to its good end; one that failed is tried `again`, where it was begun by an earlier demo."""
        api = stack.api
        follower = Follower(api, self.root, self.console, done=self.show_map)
        state = follower.follow(run.dag, run.id)
        if state == "failed" and again:  # or was stopped with an earlier demo
            self.say("  trying again what did not succeed before")
            api.clear_failed(run.dag, run.id)
            state = follower.follow(run.dag, run.id)
        if state != "success":
            raise DemoFailed(self.why(stack, run))

    def wait_for(self, api: Api, stack: Stack, dag: str) -> None:
        """Wait until Airflow has read a DAG.

        Raises
        ------
        DemoFailed
            If Airflow cannot read the DAG, or does not in time.
        """
        until = time.monotonic() + PARSING
        while api.paused(dag) is None:
            errors = api.request("GET", "/importErrors")["import_errors"]
            if errors or time.monotonic() > until:
                words = errors[0]["stack_trace"].splitlines()[-1] if errors else f"read {stack.logs('dag-processor')}"
                raise DemoFailed(f"Airflow cannot read the DAG {dag}: {words}")
            time.sleep(0.5)

    def why(self, stack: Stack, run: Run) -> str:
        """Why a run failed, and where to read more."""
        lines, api = [f"{run.dag} failed"], stack.api
        for task in [task for task in api.task_instances(run.dag, run.id) if task["state"] == "failed"]:
            log = api.log(run.dag, run.id, task["task_id"], task["try_number"], task.get("map_index", -1))
            first, *more = reason(log)[:LINES]
            lines += [f"{task['task_id']}: {first}", *(f"  {line}" for line in more)]
            lines.append(f"  log: {log_file(stack.home / 'logs', run.dag, run.id, task)}")
        return "\n".join([*lines, "Repeat the command to try again."])

    def jobs_of(self, wanted: Sequence[Run]) -> list[Status]:
        """The jobs of runs that are not over."""
        jobs = [status for status in living(self.root) if status.job.key.startswith(PREFIX)]
        return [status for status in jobs if any(f".{run.id}" in status.job.key for run in wanted)]

    def stop_jobs(self, stack: Stack, wanted: Sequence[Run]) -> None:
        """Have the jobs of the runs save and end."""
        self.say("Stopping: jobs save first; Ctrl-C once more to end at once")
        stack.stop("scheduler")  # that nothing new is begun
        for status in self.jobs_of(wanted):
            what = tending.cancel(status.job)
            self.say(f"  {status.intent.step}: {what.state.lower()}")
        self.say("Repeat the command to go on.")

    def show_map(self, dag: str, task: str, job: str) -> None:
        """Draw a map of the first forecast as soon as there is one."""
        if (dag, task) != ("training", "forecast"):
            return
        try:
            picture = first_map(forecasts_of(self.root, job), self.note.with_name("first-forecast.png"))
        except (UserError, OSError) as error:  # there are more pictures in the report
            self.say(f"  no map of the first forecast: {error}")
            return
        self.say(f"  a first forecast, as a map: {picture}")
        open_in_browser(picture.as_uri())

    def show(self, results: NightlyScores) -> int:
        """Print the scores, whether they meet the bar, and where the report is; the exit code."""
        from graphufs.demo_bar import show_with_bar
        from graphufs.weatherbench.results.scores import Scores
        from graphufs.weatherbench.results.table import score_table

        scores, passed = Scores.open(results.store), True
        if self.name == "demo":
            passed = show_with_bar(self.console, scores, "The emulator")
        else:
            self.console.print(score_table(scores))
        self.say(f"Report: {results.report}")
        self.say(f"  open it in a browser: {results.report.as_uri()}")
        self.say(f"  or copy that one file from another machine: scp MACHINE:{shlex.quote(str(results.report))} .")
        open_in_browser(results.report.as_uri())
        return DONE if passed else FAILED


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("graphufs-root"))
    parser.add_argument("--experiment", default="demo", help="another of the folder `experiments`")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of it")
    parser.add_argument("--first", action="append", default=[], metavar="COMMAND", help="what makes Airflow ready")
    parser.add_argument("--began", type=float, metavar="TIME", help="when all began, in seconds since 1970")
    parser.add_argument("--timings", action="store_true", help="say where the time went")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    timings = Timings(options.began or time.time())
    timings.add("the environment of the work", timings.began, time.time())
    try:
        with interruptible():
            demo = Demo(options.experiment, options.set, options.root.absolute(), console, options.first, timings)
            code = demo.run()
    except UserError as error:
        console.print(f"demo: {error}", highlight=False, soft_wrap=True, markup=False)
        return BAD_INPUT
    except (DemoFailed, StackError, ApiError, OSError) as error:
        console.print(f"demo: {error}", highlight=False, soft_wrap=True, markup=False, style="red")
        return FAILED
    except KeyboardInterrupt:
        return STOPPED
    if options.timings:
        console.print(timings.table())
    console.print(f"{time.time() - timings.began:.0f} seconds.")
    return code


if __name__ == "__main__":
    finish(main)
