"""The table of bad inputs: how each is made, which command is given it, and words of the refusal."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY

Make = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """A bad input: the command line, what is made in its folder first, and what the refusal must say.

    `quick` cases stand for their class in `make test`. In the command line {} is the folder.
    """

    name: str
    words: tuple[str, ...]
    line: tuple[str, ...]
    make: Make = lambda folder: None
    stdin: bytes = b""
    command: str = "graphufs"
    environment: dict[str, str] = field(default_factory=dict)
    quick: bool = False


def parameters(cases: list[Case]) -> list[object]:
    """The cases for pytest: those that are not quick only with `make test-hostile`."""
    return [pytest.param(one, id=one.name, marks=() if one.quick else pytest.mark.hostile) for one in cases]


def written(content: str | bytes, name: str = "bad.yaml") -> Make:
    """A file in the folder."""
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(raw) and None


def yaml_case(name: str, content: str | bytes, *words: str, quick: bool = False) -> Case:
    """An experiment's file that must be refused."""
    return Case(f"yaml: {name}", ("bad.yaml", *words), ("show", "bad.yaml"), written(content), quick=quick)


def set_case(name: str, override: str, *words: str, quick: bool = False) -> Case:
    """An override of tiny that must be refused."""
    return Case(f"set: {name}", words, ("show", str(TINY), "--set", override), quick=quick)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""Ten lines that stand for 400 million values."""
CHAIN = "".join(f"n{i}: &n{i} {'[' * 30}{f'*n{i - 1}' if i else 'x'}{']' * 30}\n" for i in range(20))
"""References that make it 600 levels deep, no line of which is deeper than 30."""

YAML = [
    yaml_case("not utf8", b"name: \xff\xfe", "UTF-8", quick=True),
    yaml_case("utf16", "name: tiny\n".encode("utf-16"), "UTF-8"),
    yaml_case("latin-1", "description: \xe4rger\n".encode("latin-1"), "UTF-8"),
    yaml_case("deep flow", "data: " + "[" * 100_000, "nested deeper"),
    yaml_case("deep block", "\n".join(" " * depth + "a:" for depth in range(600)), "nested deeper"),
    yaml_case("deep by references", CHAIN, "nested deeper"),
    yaml_case("billion laughs", LAUGHS, "line 5", "references", quick=True),
    yaml_case("a reference within itself", "data: &a [*a]", "within itself"),
    yaml_case("a reference to nothing", "data: *a", "undefined alias"),
    yaml_case("list as key", "? [a]\n: b", "line 1", "key"),
    yaml_case("mapping as key", "? {a: 1}\n: b", "line 1", "key"),
    yaml_case("a megabyte of text", "description: " + "x" * 2**20, "262,144"),
    yaml_case("as many values as fit", "data: [" + "1," * 120_000 + "]", "20,000 values"),
    yaml_case("thousands of unknown keys", "\n".join(f"key{i}: 1" for i in range(9_000)), "unknown key", "more"),
    yaml_case("an unknown key of 200 kB", f"? {'k' * 200_000}\n: 1", "unknown key"),
    yaml_case("binary", "description: !!binary /w==", "binary"),
    yaml_case("set", "data: !!set {a, b}", "set"),
    yaml_case("python object", "data: !!python/object/apply:os.system [true]", "python"),
    yaml_case("control characters", "name: a\x00b", "control characters"),
    yaml_case("two documents", "a: 1\n---\nb: 1", "another document"),
    yaml_case("a list", "- a\n- b", "no mapping"),
    yaml_case("nothing", "", "no mapping"),
    yaml_case("text", "hello", "no mapping"),
    yaml_case("unclosed", "data: {", "line"),
    yaml_case("a key twice", "name: a\nname: b", "line 2", "twice"),
    yaml_case("terminal escapes in a key", '"\\e[2J\\e]0;x\\a": 1', "\\x1b", "unknown key"),
    yaml_case("a new line in a key", '"a\\nb": 1', "unknown key"),
    Case("yaml: a folder", ("Is a directory",), ("show", "{}")),
    Case("yaml: no such file", ("No such file",), ("show", "nothere.yaml")),
    Case("yaml: NUL in its name", ("cannot read",), ("show", "a\0b.yaml")),
    Case("yaml: a name of 5000 letters", ("too long",), ("show", "a" * 5000)),
    Case("yaml: device without end", ("not a file",), ("show", "/dev/zero")),
    Case("yaml: a FIFO", ("not a file",), ("show", "p"), lambda folder: os.mkfifo(folder / "p")),
    Case(
        "yaml: a megabyte on standard input",
        ("standard input", "262,144"),
        ("submit", "train", "-", "--root", "r"),
        stdin=b"a" * 2**20,
        command="jobs",
    ),
]

SET = [
    set_case("lead 10^12 h", "forecast.lead_time=1000000000002h", "lead_time", quick=True),
    set_case("lead of 11 years", "forecast.lead_time=4000d", "less than or equal"),
    set_case("lead of 5000 digits", f"forecast.lead_time={'9' * 5000}h", "not a duration"),
    set_case("lead in superscripts", "forecast.lead_time=²h", "not a duration"),
    set_case("seed of 5000 digits", f"training.seed={'9' * 5000}", "4300 digits"),
    set_case("seed of 40 kB in hexadecimal", f"training.seed=0x{'f' * 40_000}", "training.seed"),
    set_case("seed beyond 32 bits", "training.seed=4294967296", "4294967295"),
    set_case("superscript index", "training.stages.².updates=3", "list of 2"),
    set_case("index of 5000 digits", f"training.stages.{'9' * 5000}.updates=3", "list of 2"),
    set_case("negative index", "training.stages.-1.updates=3", "list of 2"),
    set_case("deep value", "data.inputs=" + "[" * 50_000, "nested deeper"),
    set_case("deep key", "a." * 20_000 + "b=1", "section.key=value"),
    set_case("laughs", "data.inputs={" + LAUGHS.replace("\n", ", ") + "}", "references"),
    set_case("evaluation to 9999", "data.evaluation={start: 1994-01-13T00, end: 9999-12-31T18}", "1700 to 2200"),
    set_case(
        "evaluation to 2200 every hour",
        "data={inputs: [pressfc], targets: [pressfc], levels: [], time_step: 1h, training: {start: 1994-01-01, "
        "end: 1994-01-10}, validation: {start: 1994-01-11, end: 1994-01-12}, evaluation: {start: 1994-01-13, "
        "end: 2200-12-31}}",
        "evaluation period",
        "1,000,000",
        quick=True,
    ),
    set_case("evaluation to 2200 every 12 hours", "data.evaluation.end=2200-12-31", "initial times", "100,000"),
    set_case("nights to 2200", "nightly.until=2200-12-31", "nightly forecasts", "100,000"),
    set_case("nights to 9999", "nightly.until=9999-12-31", "1700 to 2200"),
    set_case("training from the year 1", "data.training.start=0001-01-01", "1700 to 2200"),
    set_case("a time of 10 kB", "data.training.start=x" + "1" * 10_000, "not a time"),
    set_case("10^9 input frames", "data.input_frames=1000000000", "input_frames", "100"),
    set_case("10^9 levels of refinement", "model.mesh_size=1000000000", "mesh_size"),
    set_case("a latent vector of 10^12", "model.latent_size=1000000000000", "latent_size"),
    set_case("10^12 message steps", "model.message_steps=1000000000000", "message_steps"),
    set_case("everything near everything", "model.radius_fraction=1e300", "radius_fraction"),
    set_case("not a number", "model.radius_fraction=.nan", "finite"),
    set_case("10^18 updates", "training.stages.0.updates=1000000000000000000", "updates"),
    set_case("a grid of 10^18 points", "evaluation.grid=999999999x999999999", "9999"),
    set_case("a window of 10^9 days", "evaluation.climatology_window=1000000001", "climatology_window"),
    set_case("10^9 days a night", "nightly.days_per_night=1000000000", "days_per_night"),
    set_case("10^9 days of training", "retraining.training_days=1000000000", "training_days"),
    set_case("10^9 comparisons", "retraining.comparison_times=1000000000", "comparison_times"),
    set_case("8000 initial times", f"forecast.initial_times=[{', '.join(['1994-01-13'] * 8000)}]", "ascend"),
    set_case("4000 bad stages", f"training.stages=[{','.join(['1'] * 4000)}]", "stages.0", "and 3980 more"),
    set_case(
        "the same checkpoint twice",
        "forecast={members: 3, checkpoints: [runs/a/0123456789ab/checkpoints/00000016, "
        "runs/a/0123456789ab/checkpoints/00000016]}",
        "names a checkpoint twice",
    ),
    set_case("a factor beyond float32", "training.learning_rate_factors={'*': 1e300}", "less than or equal"),
    set_case("a weight below 0", "training.loss.variable_weights={tmp: -1}", "greater than or equal to 0"),
    set_case("a weight beyond float32", "training.loss.variable_weights={tmp: 1e300}", "less than or equal"),
    set_case("no weight at all", "training.loss.variable_weights={tmp: 0, pressfc: 0}", "nothing could be learnt"),
    set_case("groups of devices that no batch fits", "training.compute.mesh={batch: 3}", "not a multiple"),
    set_case("text for a number", "training.batch_size=many", "batch_size"),
    set_case("infinity", "training.stages.0.learning_rate.peak=.inf", "finite"),
    set_case("a mapping for a list", "data.inputs={a: 1}", "data.inputs"),
    set_case("null for all", "data=null", "data"),
    set_case("no equals sign", "training", "section.key=value"),
    set_case("markup", "training.batch_size=a[/red]", "a[/red]"),
    set_case("emoji", "training.batch_size=':boom:'", ":boom:"),
    set_case("lone surrogates", "description=\udcff", "description"),
]

CLI = [
    Case("cli: closing markup in a path", ("x[/b].yaml", "No such file"), ("show", "x[/b].yaml"), quick=True),
    Case("cli: markup in a path", ("[red]x.yaml",), ("show", "[red]x.yaml")),
    Case(
        "cli: a line break in a path of weights",
        ("init_from", "a\\nb"),
        ("check", str(TINY), "--init-from", "a\nb", "--root", "r"),
    ),
    Case(
        "cli: patterns that fit no tensor",
        ("training.freeze", "nosuch"),
        ("check", str(TINY), "--set", "training.freeze=[nosuch.*]", "--root", "r"),
    ),
    Case("cli: unknown command with markup", ("[/b]",), ("[/b]",)),
    Case("cli: unknown option", ("--nosuch",), ("show", str(TINY), "--nosuch")),
    Case("cli: no experiment", ("experiment",), ("train",)),
    Case("cli: root is a file", ("File exists",), ("prepare", str(TINY), "--root", "root"), written("", "root")),
    Case("cli: root below a file", ("root",), ("prepare", str(TINY), "--root", "root/below"), written("", "root")),
    Case("cli: root in /proc", ("/proc/adv",), ("prepare", str(TINY), "--root", "/proc/adv"), quick=True),
    Case("cli: root of 5000 letters", ("too long",), ("prepare", str(TINY), "--root", "a" * 5000)),
    Case("cli: score unknown protocol", ("foo://a",), ("score", "foo://a", "foo://b", "foo://c", "out")),
    Case("cli: score nothing there", ("nothere",), ("score", "nothere", "b", "c", "out")),
    Case(
        "cli: score http refused",
        ("http://127.0.0.1:9/a",),
        ("score", "http://127.0.0.1:9/a", "http://127.0.0.1:9/b", "http://127.0.0.1:9/c", "out"),
    ),
    Case("cli: score a line break", ("a\\nb",), ("score", "a\nb", "c", "d", "out")),
    Case(
        "cli: a line break in an address",
        ("data.source.url", "line breaks"),
        ("check", str(TINY), "--set", 'data.source.url="a\\nb"', "--root", "r"),
    ),
    Case("cli: score years beyond nanoseconds", ("9999", "2200"), ("score", "a", "b", "c", "out", "--stop", "9999")),
    Case("cli: score a time of nonsense", ("noon",), ("score", "a", "b", "c", "out", "--start", "noon")),
    Case("cli: score 10^9 threads", ("--threads",), ("score", "a", "b", "c", "out", "--threads", "1000000000")),
    Case("cli: options of storage too deep", ("JSON",), ("score", "a", "b", "c", "o", "--storage-options", "[" * 9999)),
    Case("cli: options of storage a list", ("JSON",), ("score", "a", "b", "c", "o", "--storage-options", "[]")),
    Case(
        "cli: every 0 hours",
        ("--every",),
        ("pressure-levels", "a", "b", "--variables", "temperature", "--every", "0"),
    ),
    Case("cli: compare at NaN", ("--level",), ("compare", "a", "b", "--level", "nan")),
    Case("cli: compare nothing", ("nothere",), ("compare", "nothere", "[/b]", "--root", "r")),
    Case("cli: compare a negative seed", ("--seed",), ("compare", "a", "b", "--seed=-1")),
    Case("cli: night of no calendar", ("2026-02-30",), ("nightly", str(TINY), "--night", "2026-02-30")),
    Case("cli: export no checkpoint", ("not a checkpoint",), ("export", "nothere", "x.npz")),
    Case("cli: a model with markup", ("[/b]",), ("models", "show", "[/b]", "--root", "r")),
]


def poll_case(name: str, stdin: str | bytes, *words: str, quick: bool = False) -> Case:
    """A question to `graphufs-jobs poll` that must be refused."""
    raw = stdin if isinstance(stdin, bytes) else stdin.encode()
    return Case(f"poll: {name}", words or ("JSON",), ("poll", "--root", "r"), stdin=raw, command="jobs", quick=quick)


JOBS = [
    poll_case("huge cursor", json.dumps({"jobs": {"a": {"1/x": 10**30}}}), "not a cursor", quick=True),
    poll_case("cursor of 5000 digits", '{"jobs": {"a": {"1/x": ' + "9" * 5000 + "}}}", "4300 digits"),
    poll_case("negative cursor", '{"jobs": {"a": {"1/x": -1}}}', "not a cursor"),
    poll_case("true cursor", '{"jobs": {"a": {"1/x": true}}}', "not a cursor"),
    poll_case("fraction", '{"jobs": {"a": {"1/x": 1.5}}}', "not a cursor"),
    poll_case("NaN", '{"jobs": {"a": {"1/x": NaN}}}', "NaN"),
    poll_case("deep", '{"jobs": ' + "[" * 100_000, "nested deeper"),
    poll_case("deeper than allowed", '{"jobs": ' + "[" * 500 + "]" * 500 + "}", "nested deeper"),
    poll_case("ten megabytes", b'{"jobs": "' + b"x" * 10 * 2**20 + b'"}', "8,388,608"),
    poll_case("not utf8", b"\xff", "UTF-8"),
    poll_case("a list", "[]"),
    poll_case("nothing", ""),
    poll_case("jobs a list", '{"jobs": ["a"]}'),
    poll_case("jobs null", '{"jobs": null}'),
    poll_case("key leads out", '{"jobs": {"../a": {}}}', "not a job key"),
    poll_case("key of a megabyte", json.dumps({"jobs": {"k" * 2**20: {}}}), "not a job key"),
    poll_case("cursor a list", '{"jobs": {"a": [1]}}'),
    Case("jobs: fetch NUL", ("NUL",), ("fetch", "a\0b", "--root", "r"), command="jobs", quick=True),
    Case("jobs: fetch a name of 5000 letters", ("too long",), ("fetch", "a" * 5000, "--root", "r"), command="jobs"),
    Case("jobs: site not utf8", ("s.yaml", "UTF-8"), ("sites", "s.yaml"), written(b"\xff", "s.yaml"), command="jobs"),
    Case(
        "jobs: site of laughs", ("s.yaml", "references"), ("sites", "s.yaml"), written(LAUGHS, "s.yaml"), command="jobs"
    ),
    Case(
        "jobs: root is a link to itself",
        ("Symlink loop",),
        ("submit", "train", str(TINY), "--root", "loop"),
        lambda folder: (folder / "loop").symlink_to("loop"),
        command="jobs",
    ),
    Case(
        "jobs: fetch a link to itself",
        ("Symlink loop",),
        ("fetch", "loop", "--root", "."),
        lambda folder: (folder / "loop").symlink_to("loop"),
        command="jobs",
    ),
    Case("jobs: site missing", ("s.yaml", "No such"), ("sites", "s.yaml"), command="jobs"),
    Case("jobs: site with markup", ("[/b]",), ("list", "--site", "[/b]"), command="jobs"),
    Case("jobs: prune NaN days", ("--days",), ("prune", "--days", "nan", "--root", "r"), command="jobs"),
    Case("jobs: prune negative days", ("--days",), ("prune", "--days=-1", "--root", "r"), command="jobs"),
    Case("clean NaN days", ("--cache-days",), ("clean", "--cache-days", "nan", "--root", "r")),
    Case("jobs: prune infinite days", ("--days",), ("prune", "--days", "inf", "--root", "r"), command="jobs"),
    Case("jobs: unknown step", ("trian",), ("submit", "trian", str(TINY), "--root", "r"), command="jobs"),
    Case("jobs: status of no job", ("nothere",), ("status", "nothere", "--root", "r"), command="jobs"),
    Case("jobs: status of a key with markup", ("[/b]",), ("status", "[/b]", "--root", "r"), command="jobs"),
    Case("jobs: logs of no attempt", ("nothere",), ("logs", "nothere", "--root", "r"), command="jobs"),
    Case(
        "jobs: cost too deep",
        ("cost",),
        ("submit", "register", str(TINY), "--request", "cost=" + "[" * 9999, "--root", "r"),
        command="jobs",
    ),
    *(
        Case(
            f"jobs: {resource[:40]}",
            (resource.partition("=")[0],),
            ("submit", "train", str(TINY), "--resource", resource, "--root", "r"),
            command="jobs",
        )
        for resource in (
            "nodes=1000000000000", "gpus=-1", "cpus=²", f"cpus={'9' * 5000}", "memory=²G", f"memory={'9' * 5000}G",
            "time_limit=²", f"time_limit={'9' * 5000}", "time_limit=999999999-00", "blocks=1e9", "nosuch=1",
        )
    ),
]  # fmt: skip


def npz(claimed: dict[str, tuple[int, ...]], *, packing: int = zipfile.ZIP_STORED, real: int = 8) -> bytes:
    """An npz file whose headers claim these shapes of float64, each over `real` bytes of zeros."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", packing) as file:
        for name, shape in claimed.items():
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
            file.writestr(f"{name}.npy", header.getvalue() + bytes(real))
    return content.getvalue()


PARAMETER = "params:mesh_gnn/~_networks_builder/processor_edges_0_mesh_mlp/~/linear_0:w"
NPZ: dict[str, Callable[[], bytes]] = {
    "claims 8 TB": lambda: npz({PARAMETER: (999_999_999_999,)}),
    "claims 8 TB in two dimensions": lambda: npz({PARAMETER: (10**6, 10**6)}),
    "claims less than it has": lambda: npz({PARAMETER: (1,)}, real=800),
    "a negative length": lambda: npz({PARAMETER: (-1,)}),
    "overflows 64 bits": lambda: npz({PARAMETER: (2**40, 2**40)}),
    "a bomb of zeros": lambda: npz({PARAMETER: (2**25,)}, packing=zipfile.ZIP_DEFLATED, real=2**28),
    "a small bomb of bzip2": lambda: npz({PARAMETER: (2**22,)}, packing=zipfile.ZIP_BZIP2, real=2**25),
    "a small bomb of lzma": lambda: npz({PARAMETER: (2**22,)}, packing=zipfile.ZIP_LZMA, real=2**25),
    "many arrays": lambda: npz({f"params:{number}": (1,) for number in range(10_001)}),
    "no array": lambda: b"PK\x05\x06" + bytes(18),
    "nothing": lambda: b"",
    "text": lambda: b"hello",
    "half of it": lambda: npz({PARAMETER: (1,)})[:60],
}
