"""A key that Airflow has for a site does what Airflow's client asks, and nothing else, behind a real sshd."""

from __future__ import annotations

import getpass
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphufs.errors import UserError
from jobs.airflow.sites.client import Refused, SiteClient
from jobs.cli.serve_ssh import LONGEST, REFUSED, allowed
from jobs.site import load
from tests.conftest import TINY
from tests.support.airflow.sshd import Sshd, missing

TOP = Path(__file__).parents[3]
END = " --site=here --json"
GOOD = [
    "submit train - --key=af-a.b --label=dag=training '--label=run=manual 12:00' --needs=af-a.c --resource=gpus=2"
    " --resource=sbatch.begin=20:00 --request=why='two\nlines; $(x)' --force",
    "submit prepare - --key=af-a.b --first-wait=10",
    "status af-a.b --history",
    "list --label=instance=me --unfinished",
    "cancel one two three",
    "poll",
    "show",
    "fetch runs/demo/0123abc/reports/report.html --limit=33554432",
    "sites --check --resource=train.gpus=2",
    "clean --forecast-days=30 --published-days=30 --merged-days=30 --cache-days=90 --leftover-days=2 --yes",
    "prune --days=30 --yes",
]
BAD = [
    "",
    "bash -i",
    "/usr/lib/openssh/sftp-server",
    "internal-sftp",
    "scp -t /tmp",
    "graphufs list --site=here --json",
    "graphufs-jobs",
    "graphufs-jobs-x list --site=here --json",
    "env X=1 graphufs-jobs list --site=here --json",
    "graphufs-jobs list --site=here --json; touch FLAG",
    "graphufs-jobs list --site=here --json && touch FLAG",
    "graphufs-jobs list --site=here --json | tee FLAG",
    "graphufs-jobs list --site=here --json\ntouch FLAG",
    "graphufs-jobs list --site=here --json > FLAG",
    "graphufs-jobs $(touch FLAG) --site=here --json",
    "graphufs-jobs `touch FLAG` --site=here --json",
    "graphufs-jobs status $(touch FLAG) --site=here --json",
    "graphufs-jobs list --site=here",
    "graphufs-jobs list --json",
    "graphufs-jobs list --site=local --json",
    "graphufs-jobs list --site=/tmp/other.yaml --json",
    "graphufs-jobs list --site here --json",
    "graphufs-jobs list --root=/tmp --site=here --json",
    "graphufs-jobs list --debug --site=here --json",
    "graphufs-jobs prune --days=0 --yes --site=here --json",
    "graphufs-jobs clean --forecast-days=0.5 --yes --site=here --json",
    "graphufs-jobs tend --site=here --json",
    "graphufs-jobs logs key --site=here --json",
    "graphufs-jobs serve-ssh here --site=here --json",
    "graphufs-jobs fetch ../secret.json --site=here --json",
    "graphufs-jobs fetch runs/../../secret.json --site=here --json",
    "graphufs-jobs fetch /etc/passwd --site=here --json",
    "graphufs-jobs fetch jobs/key/attempts/1/payload.pkl --site=here --json",
    "graphufs-jobs fetch runs/a.html --to=/tmp/x --site=here --json",
    "graphufs-jobs fetch runs/a.html runs/b.html --site=here --json",
    "graphufs-jobs fetch key --report --site=here --json",
    "graphufs-jobs submit train /etc/passwd --site=here --json",
    "graphufs-jobs submit train demo --site=here --json",
    "graphufs-jobs submit nothing - --site=here --json",
    "graphufs-jobs submit train - --set=data.source=x --site=here --json",
    "graphufs-jobs submit train - --wait --site=here --json",
    "graphufs-jobs submit train - --key=../x --site=here --json",
    "graphufs-jobs submit train - --first-wait=86400 --site=here --json",
    "graphufs-jobs submit train - --resource=sbatch.output=/tmp/x --site=here --json",
    "graphufs-jobs submit train - --resource=sbatch.export=PYTHONPATH=/tmp --site=here --json",
    "graphufs-jobs submit train - '--resource=partition=a\ntouch FLAG #' --site=here --json",
    "graphufs-jobs sites --check --resource=train.sbatch.output=/tmp/x --site=here --json",
    "graphufs-jobs list -- --site=here --json",
    "graphufs-jobs list 'open quote --site=here --json",
]


@pytest.mark.parametrize("line", GOOD)
def test_what_airflow_sends_is_passed_on_word_for_word(line: str) -> None:
    assert allowed(f"/opt/venv/bin/graphufs-jobs {line}{END}", ["there", "here"]) == shlex.split(line + END)


@pytest.mark.parametrize("line", BAD)
def test_all_else_is_refused(line: str) -> None:
    with pytest.raises(UserError, match="this key"):
        allowed(line, ["here"])


class Login:
    """A site `here` behind a server that lets the key in for `serve-ssh here` alone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.flag = folder, folder / "root", folder / "FLAG"
        (folder / "sites").mkdir()
        python = folder / "python"  # of the jobs: what they do matters not here
        python.write_text("""#!/bin/bash\necho '{"python": "3", "versions": {"jax": "1"}}'\n""")
        python.chmod(0o755)
        control = {"connection": "far", "command": "/elsewhere/graphufs-jobs"}
        site = {"executor": "local", "root": str(self.root), "python": str(python), "control": control}
        (folder / "sites" / "here.yaml").write_text(json.dumps(site))
        self.server = Sshd(folder / "ssh")
        environment = f"GRAPHUFS_SITES={folder}/sites PYTHONPATH={TOP}"
        command = f"cd {folder}; {environment} {sys.executable} -m jobs serve-ssh here"
        self.server.allow(True, f'restrict,command="{command}"')
        host = " ".join((self.server.folder / "host.pub").read_text().split()[:2])
        (folder / "known").write_text(f"[127.0.0.1]:{self.server.port} {host}\n")
        options = ["-F", "none", "-i", f"{self.server.folder}/client", "-o", f"UserKnownHostsFile={folder}/known"]
        self.options = [*options, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
        self.to = f"{getpass.getuser()}@127.0.0.1"

    def ssh(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = ["ssh", *self.options, "-p", str(self.server.port), *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)

    def client(self) -> SiteClient:
        """Airflow's client, with OpenSSH's in place of Airflow's hook."""
        login = self

        class Client(SiteClient):
            def _run_there(self, arguments, stdin, timeout):
                done = login.ssh(login.to, self.line(arguments), stdin=stdin)
                return done.returncode, done.stdout, done.stderr

        return Client("here", load(str(self.folder / "sites" / "here.yaml")))


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    if lacks := [*missing(), *(name for name in ("ssh", "sftp", "scp") if not shutil.which(name))]:
        pytest.skip(f"no SSH on this machine ({', '.join(lacks)} not found); on Debian: openssh-server")
    found = Login(tmp_path_factory.mktemp("login"))
    found.server.start()
    yield found
    found.server.stop()


@pytest.mark.long  # what lands shows it with Airflow: the key of tests/airflow is held to it, too
def test_the_whole_protocol_passes(login: Login) -> None:
    client, text = login.client(), TINY.read_text()
    findings = {one["what"]: one["good"] for one in client.run("sites", "--check")["findings"]}
    assert findings["hard links"] is findings["ownership"] is True
    submitted = client.run("submit", "prepare", "-", "--key=one", "--label=dag=a b; 'c'", stdin=text)["jobs"][0]
    assert (submitted["what"], submitted["key"]) == ("submitted", "one")
    assert client.run("status", "one", "--history")["histories"][0]["key"] == "one"
    assert [job["key"] for job in client.run("list", "--label=dag=a b; 'c'")["jobs"]] == ["one"]
    assert client.run("poll", stdin=json.dumps({"jobs": {"one": {}}}))["jobs"][0]["key"] == "one"
    assert client.run("cancel", "one")["jobs"][0]["key"] == "one"
    report = login.root / "runs" / "tiny" / "0123" / "reports" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("a report")
    (listed,) = client.run("show")["files"]
    assert client.run("fetch", listed["path"], "--limit=100")["bytes"] == len("a report")
    with pytest.raises(Refused, match="another experiment|other work"):
        client.run("submit", "train", "-", "--key=one", stdin=text)


ATTACKS = [
    "touch FLAG",
    "graphufs-jobs list --site=here --json; touch FLAG",
    "graphufs-jobs list --site=here --json\ntouch FLAG",
    "graphufs-jobs status $(touch FLAG) --site=here --json",
    "graphufs-jobs submit train - '--resource=sbatch.comment=a\ntouch FLAG #' --site=here --json",
]


def test_attacks_over_ssh_end_in_one_line_each_and_are_noted(login: Login) -> None:
    noted = login.root / REFUSED
    before = noted.read_text().count("asked:") if noted.exists() else 0
    copy, port = str(login.folder / "copy"), str(login.server.port)
    tries = [login.ssh(login.to, attack, stdin=TINY.read_text()) for attack in ATTACKS]
    tries.append(login.ssh(login.to, stdin="touch FLAG\nexit\n"))  # a shell
    tries.append(login.ssh("-s", login.to, "sftp"))
    for tried in tries:
        assert tried.returncode == 2 and not tried.stdout.startswith("{"), tried
        said = (tried.stderr + tried.stdout).replace("\r", "").strip().splitlines()
        told = 0 if tried is tries[-1] else 1  # sshd sends back no standard error of a subsystem
        assert sum(line.startswith("error this key") for line in said) == told, said
    secret = str(login.server.folder / "host")
    for command in ([], ["-O"]):
        words = ["scp", *command, *login.options, "-P", port, f"{login.to}:{secret}", copy]
        assert subprocess.run(words, capture_output=True, timeout=120, check=False).returncode
    forwarded = login.ssh("-W", f"127.0.0.1:{port}", login.to)
    assert forwarded.returncode and "SSH-2.0" not in forwarded.stdout and "prohibited" in forwarded.stderr
    assert not login.flag.exists() and not Path(copy).exists()
    lines = noted.read_text().splitlines()
    assert len(lines) == before + len(tries) + 2 and all("from 127.0.0.1" in line for line in lines)
    assert noted.stat().st_size < LONGEST and re.search(r"asked: 'touch FLAG'", noted.read_text())
