"""What a control plane is told about many jobs at once."""

from __future__ import annotations

import pytest

from graphufs.errors import UserError
from jobs.job.folder import JobFolder
from jobs.submission import poll
from tests.jobs import attempt_of, job_of


def log(job: JobFolder, number: int, name: str, content: bytes) -> None:
    job.submitit(number).mkdir(parents=True, exist_ok=True)
    with open(job.submitit(number) / name, "ab") as file:
        file.write(content)


def test_logs_come_once_in_whole_lines_over_all_attempts(tmp_path):
    job = job_of(tmp_path)
    log(job, 1, "7_0_log.out", b"one\ntwo")
    text, cursor = poll.news(job, {})
    assert (text, cursor) == ("one\n", {"1/7_0_log.out": 4})
    log(job, 1, "7_0_log.out", b" and more\n")
    job.write_attempt(attempt_of(number=2))
    log(job, 2, "8_0_log.err", b"again\n")
    text, cursor = poll.news(job, cursor)
    assert text == "two and more\nagain\n"
    assert poll.news(job, cursor) == ("", cursor)


def test_a_long_log_comes_in_pieces(tmp_path):
    job = job_of(tmp_path)
    content = b"".join(b"line %d\n" % index for index in range(100))
    log(job, 1, "7_0_log.out", content + b"x" * 100)
    read, cursor = "", {}
    for _ in range(100):
        text, cursor = poll.news(job, cursor, limit=50)
        assert len(text) <= 50
        read += text
    assert read.startswith(content.decode()) and set(read[len(content) :]) == {"x"}


def test_many_jobs_in_one_look_and_those_that_are_not_there(fake, tmp_path):
    job = job_of(tmp_path)
    fake.row("RUNNING")
    wishes = poll.parse('{"jobs": {"job": {}, "nobody": null}}', job.root)
    known, none = poll.poll(wishes)
    assert (known["state"], known["what"], known["log"], known["cursor"]) == ("RUNNING", "nothing", "", {})
    assert none == {"key": "nobody", "state": "NONE"}
    assert len(fake.calls("squeue")) == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"jobs": []}', '{"jobs": {"a": {"x": -1}}}', '{"jobs": {"../a": {}}}']
)
def test_what_is_no_question_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"poll reads JSON|not a job key"):
        poll.parse(text, tmp_path)
