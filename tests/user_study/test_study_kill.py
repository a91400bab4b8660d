"""Eight people vote at once while the server is killed again and again: no vote is lost or counted twice."""

import http.client
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from promptplus.user_study.design import VOTES, read_design
from promptplus.user_study.server import listen
from promptplus.user_study.votes import read_votes
from tests.user_study.studies import make_study

PEOPLE, VOTES_EACH, KILLS = 8, 200, 10


class Server:
    """The command ``study serve`` in a process of its own, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with listen("127.0.0.1", 0) as at:
            self.port = at.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "promptplus", "study", "serve", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.url in self.process.stdout.readline()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class Voter(threading.Thread):
    """Votes to the end, and sends a vote again until it is acknowledged. ``acknowledged`` says which were."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__(daemon=True)
        self.url, self.number = url, number
        self.choices = random.Random(number)
        self.acknowledged: dict[tuple[str, str], str] = {}
        self.sent_again = 0
        self.error: BaseException | None = None
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()), _NoRedirect())

    def run(self) -> None:
        try:
            self.ask("/begin", {"consent": "yes"})
            while form := dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', self.ask("/vote"))):
                answer = self.choices.choice(("A", "B", "tie"))
                self.ask("/vote", {**form, "answer": answer})
                self.acknowledged[form["pair"], form["question"]] = answer
        except BaseException as error:
            self.error = error

    def ask(self, path: str, data: dict[str, str] | None = None) -> str:
        body = urllib.parse.urlencode(data).encode() if data else None
        while True:
            try:
                with self.opener.open(self.url + path, body, timeout=20) as answer:
                    return answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    if error.code == 303:
                        return ""
                    raise
            except (OSError, http.client.HTTPException):  # nobody listens, or the answer broke off
                self.sent_again += 1
                time.sleep(0.05)


@pytest.mark.slow
def test_no_acknowledged_vote_is_lost_or_counted_twice(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    plan = {"participants": PEOPLE, "pairs_each": VOTES_EACH // 2, "catch": 0}
    make_study(folder, concepts=10, count=10, **plan)
    server = Server(folder)
    voters = [Voter(server.url, number) for number in range(PEOPLE)]
    try:
        for voter in voters:
            voter.start()
        for kill in range(1, KILLS + 1):
            while sum(len(voter.acknowledged) for voter in voters) < kill * PEOPLE * VOTES_EACH // (KILLS + 1):
                assert not [voter.error for voter in voters if voter.error]
                time.sleep(0.01)
            server.kill()
            server.start()
        for voter in voters:
            voter.join(120)
    finally:
        server.kill()
    assert [voter.error for voter in voters] == [None] * PEOPLE
    assert sum(voter.sent_again for voter in voters) >= KILLS  # the kills were felt
    votes = read_votes(folder / VOTES, read_design(folder))
    assert len(votes) == PEOPLE * VOTES_EACH
    assert set(Counter((vote.participant, vote.pair, vote.question) for vote in votes).values()) == {1}
    stored: dict[int, dict[tuple[str, str], str]] = {}
    for vote in votes:
        stored.setdefault(vote.participant, {})[vote.pair, vote.question] = vote.answer
    as_text = sorted(json.dumps(sorted(map(str, one.items()))) for one in stored.values())
    assert as_text == sorted(json.dumps(sorted(map(str, voter.acknowledged.items()))) for voter in voters)
