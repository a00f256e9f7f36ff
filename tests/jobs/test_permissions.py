"""Nobody but the account can change what its jobs run; another account of the machine gets one clear line."""

from __future__ import annotations

import ast
import grp
import json
import os
import pickle
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphufs.errors import UserError
from jobs import preflight
from jobs.job.folder import JobFolder
from jobs.permissions import SHARED, require_private
from jobs.site import Site
from jobs.submission import submit
from tests.conftest import TINY
from tests.jobs import EXPERIMENT, job_of
from tests.support import stranger

PRIVATE = Site.model_validate({"executor": "slurm"})
TOGETHER = Site.model_validate({"executor": "slurm", "shared_with_group": True})


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account's group has other members."""
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("project", "x", gid, ["else"])))


def asked(root: Path, site: Site = PRIVATE) -> submit.Request:
    return submit.Request("prepare", EXPERIMENT, "fake", site, root, "job")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("place", "wrong", "says"),
    [
        ("root", 0o777, "chmod o-w"),
        ("root", 0o1777, "chmod o-w"),  # the folders in it could be anybody's
        ("root", 0o775, "chmod g-w"),
        ("root", 0o2770, "chmod g-w"),
        (".", 0o777, "chmod o-w"),
        (".", 0o770, "chmod g-w"),
        ("root/jobs", 0o770, "chmod -R g-w"),
        ("root/jobs/job", 0o775, "chmod -R g-w"),
        ("root/cache/jax", 0o777, "chmod -R o-w"),
    ],
)
def test_a_folder_that_others_may_write_is_refused_before_anything_is_submitted(
    place: str, wrong: int, says: str, tmp_path: Path, fake: object, project: None
) -> None:
    folder = tmp_path / place
    (tmp_path / "root").mkdir()
    folder.mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    folder.chmod(wrong)
    with pytest.raises(UserError) as refused:
        submit.submit(asked(tmp_path / "root"))
    for word in (str(folder), f"{wrong:04o}", ":project", says, "shared_with_group"):
        assert word in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before
    folder.chmod(0o755)
    assert submit.submit(asked(tmp_path / "root"))[0] == "submitted"


def test_a_link_to_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "root").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open" / "root")
    with pytest.raises(UserError, match="open .mode 0777"):
        require_private(tmp_path / "link")


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o007, 0o000])
def test_a_new_root_is_the_account_s_alone_whatever_its_umask(
    mask: int, tmp_path: Path, fake: object, project: None
) -> None:
    root, before = tmp_path / "above" / "root", os.umask(mask)
    try:
        _, status = submit.submit(asked(root))
    finally:
        os.umask(before)
    assert [mode(path) for path in (root.parent, root, root / "jobs", root / "cache")] == [0o755, 0o755, 0o700, 0o700]
    script = (status.job.folder(1) / "script.sh").read_text()
    assert f"export {SHARED}=0" in script
    require_private(root, status.job.submitit(1))  # as the job does, though the mask leaves these to everybody


def test_a_group_of_the_account_s_own_is_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    name = pwd.getpwuid(os.geteuid()).pw_name
    tmp_path.chmod(0o775)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group((name, "x", gid, [])))
    require_private(tmp_path)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group((name, "x", gid, ["else"])))
    with pytest.raises(UserError, match="0775"):
        require_private(tmp_path)


def test_a_root_that_is_shared_on_purpose_is_taken_and_its_jobs_know(
    tmp_path: Path, fake: object, project: None
) -> None:
    tmp_path.chmod(0o775)
    _, status = submit.submit(asked(tmp_path / "root", TOGETHER))
    assert f"export {SHARED}=1" in (status.job.folder(1) / "script.sh").read_text()
    assert mode(tmp_path / "root" / "jobs") == 0o770
    (tmp_path / "root").chmod(0o777)
    with pytest.raises(UserError, match="written by everybody"):
        submit.submit(asked(tmp_path / "root", TOGETHER))


@pytest.mark.parametrize(("content", "good"), [(0o755, True), (0o777, False)])
def test_the_check_of_a_site_looks_at_it(content: int, good: bool, tmp_path: Path) -> None:
    tmp_path.chmod(content)
    site = Site.model_validate({"executor": "local"})
    first = next(preflight.check("here", site, tmp_path))
    assert (first.what, first.good) == ("ownership", good) and str(tmp_path) in first.words


class Planted:
    """What runs where it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.flag,)


def test_a_job_unpickles_nothing_that_others_may_have_written(tmp_path: Path) -> None:
    flag, job = tmp_path / "flag", job_of(tmp_path / "root")
    job.submitit(1).mkdir()
    (job.submitit(1) / "7_submitted.pkl").write_bytes(pickle.dumps(Planted(flag)))
    command = [sys.executable, "-m", "jobs.worker.bootstrap", str(job.submitit(1))]
    environment = {**os.environ, "SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7"}
    environment |= {"SUBMITIT_LOCAL_GLOBALID": "0", "SUBMITIT_LOCAL_LOCALID": "0"}

    def begin() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/", check=False)

    (tmp_path / "root").chmod(0o777)
    done = begin()
    assert done.returncode and done.stderr.startswith(f"error {tmp_path / 'root'} (mode 0777") and not flag.exists()
    noted = json.loads((job.folder(1) / "ending.json").read_text())
    assert noted["ending"] == "bad_input" and noted["message"] in done.stderr
    (tmp_path / "root").chmod(0o755)
    begin()
    assert flag.exists()  # what it would have done


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that others may enter, which pytest's are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_another_account_reads_no_jobs_writes_nothing_and_is_told_so_in_a_line(
    reachable: Path, fake: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = reachable / "root"
    submit.submit(asked(root))
    script = f"""
import contextlib, io, os, sys, traceback
from pathlib import Path
root = Path({str(root)!r})
found = []
for folder, _, files in os.walk(root):
    for name in files:
        with contextlib.suppress(OSError):
            open(os.path.join(folder, name), "rb").close()
            found.append(os.path.join(folder, name))
for path in (root / "new", root / "jobs" / "new", root / "cache" / "new"):
    with contextlib.suppress(OSError):
        path.touch()
        found.append(str(path))
print("reached", found)
from graphufs.cli.main import main as graphufs
from jobs.cli.main import main as jobs
for main, words in (
    (graphufs, ["prepare", {str(TINY)!r}]), (graphufs, ["run", {str(TINY)!r}]),
    (jobs, ["list"]), (jobs, ["status", "job"]), (jobs, ["logs", "job"]), (jobs, ["cancel", "job"]), (jobs, ["tend"]),
    (jobs, ["prune", "--yes"]), (jobs, ["fetch", "jobs/job/experiment.yaml"]), (jobs, ["fetch", "job", "--report"]),
    (jobs, ["submit", "prepare", {str(TINY)!r}]), (jobs, ["submit", "prepare", {str(TINY)!r}, "--key", "job"]),
):
    out = io.StringIO()
    with contextlib.redirect_stderr(out):
        try:
            main([*words, "--root", str(root)])
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
    print(repr((words[:2], code, out.getvalue().strip())))
"""
    done = stranger.run(reachable, sys.executable, "-c", script)
    lines = done.stdout.splitlines()
    assert lines and lines[0] == "reached []", done.stdout + done.stderr
    assert len(lines) == 13, done.stdout + done.stderr
    for line in lines[1:]:
        _, code, said = ast.literal_eval(line)
        assert code == 2 and said.startswith("error ") and "\n" not in said, line
    assert not (root / "runs").exists() and len(JobFolder.all(root)) == 1
