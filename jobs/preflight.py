"""Whether a site is ready for jobs, found out before anything waits in a queue for hours."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from graphufs.errors import UserError
from graphufs.steps import STEPS
from graphufs.storage.atomic import NO_HARD_LINKS
from graphufs.storage.lock import locked
from jobs.permissions import make_root, require_private
from jobs.scheduler import slurm
from jobs.site import Site

SPACE = 20 * 2**30
"""Bytes that should be free: a year of prepared P0 data takes a part of it."""
PACKAGES = ("graphufs", "jax", "jaxlib", "equinox", "optax", "numpy", "xarray", "zarr", "submitit", "pydantic")
PROBE = """
import importlib, json, sys
from importlib import metadata
for name in ("jax", "equinox", "optax", "xarray", "zarr", "submitit", "graphufs", "jobs.worker.runner"):
    importlib.import_module(name)
versions = {}
for name in %r:
    try:
        versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        versions[name] = None
print(json.dumps({"python": sys.version.split()[0], "versions": versions}))
"""


@dataclass(frozen=True)
class Finding:
    """One check: what, whether it is well (None: could not be told, or a warning), and words."""

    what: str
    good: bool | None
    words: str


def check(name: str, site: Site, root: Path, wanted: Sequence[str] = ()) -> Iterator[Finding]:
    """Look at everything a job will need, with overrides of its resources as in `train.gpus=2`.

    Raises
    ------
    UserError
        If an override names no step.
    """
    overrides: dict[str, list[str]] = {step: [] for step in STEPS}
    for one in wanted:
        step, _, resource = one.partition(".")
        if step not in STEPS:
            raise UserError(f"--resource {one}: write it as step.key=value, for example train.gpus=2")
        overrides[step].append(resource)
    for step in STEPS:
        site.resources_of(step, overrides[step])
    yield _private(root, site.shared_with_group)
    yield _writable(root, site.shared_with_group)
    yield _space(root)
    yield _locks(root)
    yield _links(root)
    yield _environment(site)
    if site.executor == "slurm":
        yield _commands()
        yield _accounting()
        for step in STEPS:
            yield _placement(name, site, step, overrides[step])
    yield _gpu(site, max(site.resources_of(step, overrides[step]).gpus for step in STEPS))


def _writable(root: Path, group: bool) -> Finding:
    try:
        make_root(root, group=group)
        with tempfile.NamedTemporaryFile(dir=root, prefix=".preflight-") as file:
            file.write(b"x")
    except OSError as error:
        return Finding("root folder", False, f"{root} cannot be written: {error.strerror}; change the site's root")
    return Finding("root folder", True, f"{root} can be written")


def _private(root: Path, group: bool) -> Finding:
    try:
        require_private(root, group=group)
    except UserError as error:
        return Finding("ownership", False, str(error))
    if group:
        return Finding("ownership", None, f"{root} may be shared: its group can run programs as this account")
    return Finding("ownership", True, f"nobody else can change what jobs of {root} run")


def _space(root: Path) -> Finding:
    try:
        free = shutil.disk_usage(root).free
    except OSError as error:
        return Finding("space", False, f"{root}: {error.strerror}")
    words = f"{free / 2**30:.0f} GiB free below {root} (quotas are not seen here)"
    return Finding("space", True if free > SPACE else None, words)


def _locks(root: Path) -> Finding:
    """File locks keep two submitters apart; some parallel file systems are mounted without them."""
    try:
        with locked(root / ".preflight", should_stop=lambda: True, waiting=lambda: None):
            pass  # what was made for it goes with it
    except OSError as error:
        return Finding("file locks", False, f"flock fails below {root} ({error.strerror}); mount it with flock")
    return Finding("file locks", True, "work")


def _links(root: Path) -> Finding:
    """By a hard link, one writer alone makes a registry's event and one job alone claims the work."""
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=".preflight-") as folder:
            (first := Path(folder, "first")).touch()
            os.link(first, Path(folder, "second"))
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            return Finding("hard links", False, f"none can be made in {root}: {error.strerror}; change the site's root")
        words = (
            f"the file system of {root} has none; file locks stand in, if they work between all nodes: else move root"
        )
        return Finding("hard links", None, words)
    return Finding("hard links", True, "work")


def _environment(site: Site) -> Finding:
    """The job's Python imports all it needs, and is what is here too."""
    from jobs.submission.launch import python_of

    script = "\n".join([*site.setup, f"{python_of(site)} -c {shlex.quote(PROBE % (PACKAGES,))}"])
    environment = slurm.environment() | {"JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run(
            ["bash", "-e", "-c", script], capture_output=True, text=True, timeout=300, env=environment, cwd="/"
        )
    except subprocess.TimeoutExpired:
        return Finding("environment", False, "the site's setup and Python took more than 5 minutes")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("environment", False, f"the site's setup or Python fails: {last}; see docs/jobs.md")
    there = json.loads(done.stdout.strip().splitlines()[-1])
    different = []
    for package, version in there["versions"].items():
        try:
            ours = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # the control plane has no JAX
        if version != ours:
            different.append(f"{package} {version} there, {ours} here")
    if different:
        return Finding("environment", False, f"versions differ: {'; '.join(different)}; install the same lock on both")
    return Finding("environment", True, f"Python {there['python']}, jax {there['versions']['jax']}, same versions here")


def _commands() -> Finding:
    missing = [name for name in ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun") if not shutil.which(name)]
    if missing:
        return Finding("Slurm", False, f"{', '.join(missing)} not found; run this on a login node")
    try:
        slurm.squeue()
    except slurm.Silent as silent:
        return Finding("Slurm", False, str(silent))
    return Finding("Slurm", True, "answers")


def _accounting() -> Finding:
    try:
        slurm.find("graphufs.preflight", datetime.now(UTC))
    except slurm.Silent as silent:
        return Finding("accounting", None, f"{silent}; without it jobs that squeue has forgotten become UNKNOWN")
    return Finding("accounting", True, "answers")


def _placement(name: str, site: Site, step: str, wanted: Sequence[str] = ()) -> Finding:
    """When Slurm would start the step's job."""
    from jobs.submission.launch import sbatch_text

    try:
        resources = site.resources_of(step, wanted)
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, "script.sh")
            script.write_text(sbatch_text(Path(folder), site, resources, "graphufs.preflight", [], {}))
            words = slurm.test_only(str(script))
    except (slurm.Refused, UserError) as error:
        return Finding(f"{step} job", False, f"{error}; change resources.{step} of the site {name}")
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(f"{step} job", None, f"no estimate: {error}")
    return Finding(f"{step} job", True, words.removeprefix("sbatch: "))


def _gpu(site: Site, wanted: int) -> Finding:
    """GPUs that jobs ask for; on a cluster they are the compute nodes' and Slurm knows them."""
    if site.executor == "slurm":
        if not wanted:
            return Finding("GPU", None, "no step asks for one")
        try:
            known = slurm.gpus()
        except slurm.Silent as silent:
            return Finding("GPU", None, str(silent))
        return Finding("GPU", bool(known), f"{wanted} a node asked for; the nodes have {known or 'none'}")
    names = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    if wanted and not names:
        return Finding("GPU", False, f"{wanted} asked for, none visible here")
    return Finding("GPU", True if names else None, ", ".join(names) or "none here; steps run on the CPU")
