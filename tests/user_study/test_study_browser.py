"""The study in a real browser: two people at once, a server that is killed in between, and the report."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from promptplus.user_study.design import VOTES, StudyDesign, StudyKey, read_design, read_key
from promptplus.user_study.report import report
from promptplus.user_study.votes import read_votes
from tests.browser import DESKTOP, PHONE, chromium, page_of, screenshot, serious_faults
from tests.user_study.studies import make_study
from tests.user_study.test_study_kill import Server

pytestmark = [pytest.mark.slow, pytest.mark.browser]
KEYS = ("1", "ArrowRight", "0", "b", "t", "2", "ArrowLeft")


def number(page: Page) -> str:
    return page.inner_text(".progress label") if page.locator(".progress").count() else "done"


def wait_for_next(page: Page, before: str) -> None:
    script = "before => (document.querySelector('.progress label')?.innerText ?? 'done') !== before"
    page.wait_for_function(script, arg=before)
    page.wait_for_load_state()


def begin(page: Page) -> None:
    page.check("text=I have read this")
    page.click("text=Begin")
    page.wait_for_selector("#vote")


def test_two_people_vote_at_once_and_a_kill_in_between_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    make_study(folder, concepts=2, count=2, participants=2, catch=1, most_wrong=1)
    design = read_design(folder)
    key = read_key(folder, design)
    steps = design.rules.pairs_each * 2 + sum(pair.everyone for pair in design.pairs)
    server = Server(folder)
    try:
        with chromium() as browser, page_of(browser, server.url) as one, page_of(browser, server.url, PHONE) as two:
            pages = {"desktop": one, "phone": two}
            for name, page in pages.items():
                assert not serious_faults(page)
                screenshot(page, f"study-{name}-welcome")
                begin(page)
            for step in range(steps):
                if step == steps // 2:
                    vote_while_the_server_is_down(server, one)
                for name, page in pages.items():
                    before = number(page)
                    if page is one and step == steps // 2:
                        continue  # it has voted while the server was down
                    if step < 6:
                        assert not serious_faults(page)
                        screenshot(page, f"study-{name}-{step}-{page.input_value('input[name=question]')}")
                    right = key.pairs[page.input_value("input[name=pair]")].right
                    if page is one:
                        page.keyboard.press({"A": "1", "B": "2"}.get(right or "", KEYS[step % len(KEYS)]))
                    else:
                        page.click(f"button[value={right or ('A', 'B', 'tie')[step % 3]}]")
                    wait_for_next(page, before)
            for name, page in pages.items():
                assert "Thank you" in page.inner_text("main")
                assert not serious_faults(page)
                screenshot(page, f"study-{name}-thanks")
            with page_of(browser, server.url) as late:
                assert "all the participants it needs" in late.inner_text("main")
            check_votes(folder, design, key, steps)
            read_the_report(browser, folder)
    finally:
        server.kill()


def vote_while_the_server_is_down(server: Server, page: Page) -> None:
    """A vote is sent until the server is there again, and a second key does not replace it."""
    before = number(page)
    server.kill()
    page.keyboard.press("1")
    page.wait_for_function("() => document.getElementById('status').innerText.includes('cannot be reached')")
    page.keyboard.press("2")
    server.start()
    wait_for_next(page, before)


def check_votes(folder: Path, design: StudyDesign, key: StudyKey, steps: int) -> None:
    votes = read_votes(folder / VOTES, design)
    assert len(votes) == 2 * steps
    keyboard = [vote for vote in votes if vote.participant == votes[0].participant]
    meant = {"1": "A", "ArrowRight": "B", "0": "tie", "b": "B", "t": "tie", "2": "B", "ArrowLeft": "A"}
    expected = [key.pairs[vote.pair].right or meant[KEYS[step % len(KEYS)]] for step, vote in enumerate(keyboard)]
    expected[steps // 2] = "A"
    assert [vote.answer for vote in keyboard] == expected


def read_the_report(browser: object, folder: Path) -> None:
    page_file = report(folder).write(folder / "report")
    context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})  # type: ignore[attr-defined]
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert "2 of 2 wanted have finished" in page.inner_text(".lead")
    assert "the votes of 2 count" in page.inner_text(".lead")
    assert page.locator("img").count() == 1
    assert not serious_faults(page)
    assert json.loads((folder / "report" / "people.json").read_text())["values"]["finished"] == 2
    assert re.search(r"participant,pair,question", (folder / "report" / "people-votes.csv").read_text())
    screenshot(page, "study-report")
    context.close()


def test_going_on_with_the_code_on_another_device_and_the_order_of_focus(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    make_study(folder, concepts=1, count=2, participants=1)
    server = Server(folder)
    try:
        with chromium() as browser, page_of(browser, server.url) as one, page_of(browser, server.url, PHONE) as two:
            begin(one)
            before = number(one)
            one.keyboard.press("1")
            wait_for_next(one, before)
            two.fill("text=Your participant code", one.inner_text("footer .code"))
            two.click("form[action='/resume'] button")
            two.wait_for_selector("#vote")
            assert number(two) == number(one)
            focused = []
            for _ in range(3):
                two.keyboard.press("Tab")
                focused.append(two.evaluate("document.activeElement.value"))
            assert focused == ["A", "B", "tie"]
            before = number(two)
            two.keyboard.press(" ")  # a space presses the button that has the focus
            wait_for_next(two, before)
            before = number(two)
            two.keyboard.press("Tab")
            two.keyboard.press("Enter")
            wait_for_next(two, before)
            assert two.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    finally:
        server.kill()
    assert [vote.answer for vote in read_votes(folder / VOTES, read_design(folder))][:3] == ["A", "tie", "A"]
