"""A person at Airflow's pages: a headless Chromium that logs in, fills a form in, follows a run and reads a log."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 180


def skip_without_browser() -> str:
    """The browser's program; skips the test where there is none."""
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: run scripts/packages.sh browser as root")
    return found


class Person:
    """A user of Airflow's pages who keeps pictures of what she sees in a folder."""

    def __init__(self, page, url: str, pictures: Path) -> None:
        self.url, self.pictures = url, pictures
        self.addresses: set[str] = set()
        self.look_at(page)

    def look_at(self, page) -> None:
        """Go on with this page."""
        self.page = page
        page.on("request", lambda request: self.addresses.update(filter(None, [urlsplit(request.url).hostname])))
        page.set_default_timeout(1000 * SECONDS)

    def picture(self, name: str) -> None:
        """Keep a picture of the page."""
        self.page.wait_for_timeout(700)  # what slides in has come to rest
        self.page.screenshot(path=self.pictures / f"{name}.png")

    def log_in(self, user: str, password: str) -> None:
        """Come in through the login page, on another one where Chromium's process for the first has crashed."""
        from playwright.sync_api import Error

        try:
            self.page.goto(self.url)
            self.page.fill("input[name=username]", user)
        except Error as error:
            if "crashed" not in str(error):
                raise
            self.look_at(self.page.context.new_page())
            self.page.goto(self.url)
            self.page.fill("input[name=username]", user)
        self.page.fill("input[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(f"{self.url}/")

    def open_form(self, dag: str):
        """A DAG's trigger form."""
        self.page.goto(f"{self.url}/dags/{dag}")
        self.page.get_by_role("button", name="Trigger").first.click()
        form = self.page.get_by_role("dialog").filter(has_text="Trigger Dag")
        form.get_by_test_id("trigger-dag-submit").wait_for()
        return form

    def unfold(self, form, section: str) -> None:
        """Open a section of a form; the one that was open closes."""
        form.locator("button[data-part=item-trigger]", has_text=section).first.click()

    def choose(self, form, name: str, value: str) -> None:
        """Take one of a list."""
        hidden = form.locator(f"input[name=element_{name}]")
        hidden.locator("xpath=..").locator("input[role=combobox]").click()
        self.page.keyboard.type(value)
        self.page.keyboard.press("Enter")
        assert hidden.input_value() == value

    def write(self, form, name: str, value: str) -> None:
        """Type into a field."""
        form.locator(f"[name=element_{name}]").fill(value)

    def submit(self, form, dag: str) -> str:
        """Press the form's button and see the new run's page; the run's id."""
        answers: list[str] = []
        self.page.on("response", lambda answer: answers.append(f"{answer.status} {answer.request.method} {answer.url}"))
        form.get_by_test_id("trigger-dag-submit").click()
        try:
            self.page.wait_for_url(f"**/dags/{dag}/runs/**")
        except Exception as error:
            text = self.page.inner_text("body")
            raise AssertionError(f"no run's page: {text}\n{[one for one in answers if 'POST' in one]}") from error
        return self.page.url.rpartition("/runs/")[2].partition("/")[0].partition("?")[0]

    def see(self, condition: Callable[[str], bool], seconds: float) -> str:
        """Look at the page, which refreshes itself, until its text is as wanted; the text."""
        end = time.monotonic() + seconds
        while not condition(text := self.page.inner_text("body")):
            assert time.monotonic() < end, f"after {seconds:.0f} s the page says: {text}"
            self.page.wait_for_timeout(500)
        return text

    def open_log(self, dag: str, run: str, task: str) -> None:
        """A task's page, which shows its log."""
        self.page.goto(f"{self.url}/dags/{dag}/runs/{run}/tasks/{task}")

    def open_models(self):
        """The page of models, as the menu leads to it: its frame."""
        self.page.goto(self.url)
        self.page.get_by_role("link", name="Models").first.click()
        frame = self.page.frame_locator("iframe")
        frame.get_by_role("heading", name="Models", exact=True).wait_for()
        return frame

    def like_a_phone(self) -> None:
        """Go on at the width of a phone."""
        self.page.set_viewport_size({"width": 390, "height": 844})

    def too_wide(self) -> int:
        """Pixels by which the page can be scrolled to the side."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@contextmanager
def person(url: str, pictures: Path) -> Iterator[Person]:
    """Somebody with a browser of her own, in a fresh profile."""
    program = skip_without_browser()
    from playwright.sync_api import sync_playwright

    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="graphufs-browser-") as profile, sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            profile,
            executable_path=program,
            headless=True,
            # as root, in a container, there is no sandbox for it
            chromium_sandbox=os.geteuid() != 0,
            viewport={"width": 1400, "height": 1000},
        )
        try:
            yield Person(context.pages[0], url, pictures)
        finally:
            context.close()


@dataclass(frozen=True)
class Seen:
    """What a person saw of a run she started: its id, its log's text, and the addresses her browser went to."""

    run: str
    log: str
    addresses: set[str]


def train_by_hand(
    url: str, password: str, pictures: Path, until_over: Callable[[str], object], *, seed: int, world: int
) -> Seen:
    """Log in, fill in the training form, trigger it, see it run and then green, read its log.

    Meanwhile `until_over` is called with the run's id, and the page is closed: it turns its wheels at the cost of a
    third of a processor.
    """
    with person(url, pictures) as her:
        her.log_in("op", password)
        form = her.open_form("training")
        her.choose(form, "experiment", "tiny")
        her.choose(form, "site", "bench")
        her.write(form, "overrides", f"data.source.world.seed={world}")
        her.picture("form")
        her.unfold(form, "Training")
        her.write(form, "updates", "6")
        her.write(form, "seed", str(seed))
        her.picture("form-training")
        run = her.submit(form, "training")
        her.see(lambda text: "Running" in text, SECONDS)
        address = her.page.url
        her.page.goto("about:blank")
        until_over(run)
        her.page.goto(address)
        her.see(lambda text: "Success" in text.partition("Logical Date")[0], SECONDS)
        her.picture("run")
        her.open_log("training", run, "train")
        log = her.see(lambda text: "GPU-hours" in text, SECONDS)
        her.picture("log")
        return Seen(run, log, her.addresses)


def look_at_models(url: str, password: str, pictures: Path, model: str) -> set[str]:
    """See a model on the page of models and open its report, at a desk and on a phone; the addresses gone to."""
    with person(url, pictures) as her:
        her.log_in("viewer", password)
        frame = her.open_models()
        frame.get_by_text(model).first.wait_for()
        her.picture("models")
        frame.get_by_role("link", name="report", exact=True).first.click()
        report = frame.frame_locator("iframe[sandbox='']")
        report.get_by_role("heading", name="tiny").first.wait_for()
        her.picture("models-report")
        frame.get_by_role("link", name="← Models").click()
        frame.get_by_text(model).first.wait_for()
        her.like_a_phone()
        for place in ("graphufs/", "graphufs/#jobs"):
            her.page.goto(f"{url}/{place}")
            her.page.get_by_text(model).first.wait_for()
            assert her.too_wide() <= 0
        her.page.goto(f"{url}/graphufs/")
        her.picture("models-phone")
        her.page.get_by_role("link", name="report", exact=True).first.click()
        her.page.frame_locator("iframe").get_by_role("heading", name="tiny").first.wait_for()
        assert her.too_wide() <= 0
        her.picture("models-phone-report")
        return her.addresses


def answer(url: str, password: str, pictures: Path, run: str, option: str) -> None:
    """Log in, read the scorecard of a round of retraining, and answer its question."""
    with person(url, pictures) as her:
        her.log_in("op", password)
        her.page.goto(f"{url}/dags/retraining/runs/{run}/tasks/ask/required_actions")
        her.see(lambda text: "become the champion?" in text and "The rule says ask" in text, SECONDS)
        her.picture("ask")
        her.page.get_by_role("button", name=option, exact=True).click()
        her.see(lambda text: "op" in text and "Response" in text, SECONDS)
        her.picture("answered")
