"""The pages of a study, without a browser: what is shown, what is refused, and that it works without JavaScript."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from promptplus.errors import SettingsError
from promptplus.user_study import server
from promptplus.user_study.design import KEY_JSON, StudyDesign
from promptplus.user_study.forms import MAX_BODY
from promptplus.user_study.votes import VoteStore, read_votes
from tests.user_study.studies import make_study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_study(tmp_path / "study", methods=("secretone", "othermethod"), participants=1, title="Title <b>")
    (tmp_path / "study" / KEY_JSON).unlink()  # the server does without
    return tmp_path / "study"


@pytest.fixture
def design(folder: Path) -> StudyDesign:
    from promptplus.user_study.design import read_design

    return read_design(folder)


@pytest.fixture
def client(folder: Path, design: StudyDesign) -> Iterator[TestClient]:
    store = VoteStore(folder / "votes.sqlite", design)
    with TestClient(server.create_app(folder, design, store)) as client:
        yield client
    store.close()


def begin(client: TestClient, **more: str) -> str:
    """Begin; returns the first page of a question."""
    answer = client.post("/begin", data={"consent": "yes", **more})
    assert answer.status_code == 200
    return answer.text


def form_of(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))


def test_a_study_is_answered_to_the_end_without_javascript(
    client: TestClient, folder: Path, design: StudyDesign
) -> None:
    page, seen = begin(client), []
    while form := form_of(page):
        seen.append((form["pair"], form["question"], "tie"))
        assert ("<blockquote" in page) == (form["question"] == "text")
        assert ("Real picture 4" in page) == (form["question"] == "subject")
        page = client.post("/vote", data={**form, "answer": "tie"}).text
    assert "Thank you" in page
    assert len(seen) == sum(len(pair.questions) for pair in design.pairs)
    votes = read_votes(folder / "votes.sqlite", design)
    assert [(vote.pair, vote.question, vote.answer) for vote in votes] == seen
    assert "all the participants it needs" in TestClient(client.app).get("/").text


def test_no_page_address_or_picture_tells_the_method_or_a_right_answer(client: TestClient, design: StudyDesign) -> None:
    page, texts = begin(client), []
    while form := form_of(page):
        texts.append(page)
        for address in re.findall(r'(?:src|href)="([^"]+)"', page):
            found = client.get(address)
            assert found.status_code == 200
            assert not found.headers.keys() & {"last-modified", "etag", "content-disposition"}
            texts += [address, found.content.decode("latin-1")]
        page = client.post("/vote", data={**form, "answer": "A"}).text
    everything = "\n".join(texts).lower()
    assert not [
        w for w in ("secretone", "othermethod", "catch trial", "everyone", "right answer", "c0/") if w in everything
    ]
    assert not [one for one in texts if "http://" in one or "https://" in one]  # no other hosts
    for pair in design.pairs:  # the two pictures of a pair differ in nothing but their pixels
        sizes = [client.get(f"/pictures/{name}.png").content[16:29] for name in (pair.a, pair.b)]  # IHDR
        assert sizes[0] == sizes[1]


def test_votes_that_are_double_forged_or_unknown_are_refused(
    client: TestClient, folder: Path, design: StudyDesign
) -> None:
    first = form_of(begin(client))
    vote = {**first, "answer": "A"}
    stranger = TestClient(client.app)
    assert stranger.post("/vote", data=vote).status_code == 403
    stranger.cookies.set(f"promptplus-study-{design.id}", "forged")
    assert stranger.post("/vote", data=vote).status_code == 403
    assert stranger.get("/vote").status_code == 403
    picture = f"/pictures/{min(design.pictures)}.png"
    assert (stranger.get(picture).status_code, client.get(picture).status_code) == (403, 200)
    unknown = {"answer": "C", "question": "x" * 40, "pair": "../../key.json"}
    for name, value in unknown.items():
        assert client.post("/vote", data={**vote, name: value}).status_code == 422
        assert client.post("/vote", data={k: v for k, v in vote.items() if k != name}).status_code == 422
    assert client.post("/vote", data={**vote, "participant": "1"}).status_code == 422
    assert client.post("/vote", content="answer=A&answer=B").status_code == 422
    assert client.post("/vote", content=b"\xff\xfe").status_code == 422
    assert client.post("/vote", content="answer=%ff").status_code == 422
    assert client.post("/vote", content="a" * (MAX_BODY + 1)).status_code == 413
    assert client.post("/vote", data={**vote, "question": "nothing"}).status_code == 409
    assert client.post("/vote", data={**vote, "pair": "0" * 16}).status_code == 409
    assert read_votes(folder / "votes.sqlite", design) == []
    second = form_of(client.post("/vote", data=vote).text)
    assert second != first
    assert form_of(client.post("/vote", data=vote).text) == second  # sent again: counted once, and goes on
    again = client.post("/vote", data={**vote, "answer": "B"})
    assert (again.status_code, "first answer stays" in again.text) == (409, True)
    assert [one.answer for one in read_votes(folder / "votes.sqlite", design)] == ["A"]


@pytest.mark.parametrize(
    "address",
    [
        *("/key.json", "/study.json", "/votes.sqlite", "/docs", "/openapi.json", "/pictures/", "/pictures/x.png"),
        *("/pictures/..%2fkey.json", "/pictures/%2e%2e/study.json", "/static/..%2fserver.py", "/static/../votes.py"),
    ],
)
def test_nothing_else_is_served(client: TestClient, folder: Path, address: str) -> None:
    (folder / KEY_JSON).write_text("{}")
    begin(client)
    assert client.get(address).status_code == 404


def test_consent_and_the_access_code_are_needed(folder: Path, design: StudyDesign) -> None:
    store = VoteStore(folder / "votes.sqlite", design)
    client = TestClient(server.create_app(folder, design, store, "sesame"))
    assert client.post("/begin", data={"access": "sesame"}).status_code == 422
    for wrong in ({}, {"access": "sesam"}, {"access": "sésame"}):
        assert client.post("/begin", data={"consent": "yes", **wrong}).status_code == 403
    code = re.findall(r'class="code">([A-Z0-9-]+)<', begin(client, access="sesame"))[0]
    other = TestClient(client.app)
    assert other.post("/resume", data={"code": code}).status_code == 403
    assert other.post("/resume", data={"code": "AAAAA-AAAAA", "access": "sesame"}).status_code == 403
    on = other.post("/resume", data={"code": code.lower(), "access": "sesame"})
    assert form_of(on.text) == form_of(client.get("/vote").text)
    store.close()


def test_pages_bring_headers_that_keep_other_hosts_out_and_escape_texts(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert page.headers["cache-control"] == "no-store"
    assert "Title &lt;b&gt;" in page.text
    answer = client.post("/begin", data={"consent": "yes"}, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


def test_a_disk_that_fails_is_not_taken_for_a_vote(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    form = form_of(begin(client))

    def fails(*_: object) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(VoteStore, "vote", fails)
    answer = client.post("/vote", data={**form, "answer": "A"}, follow_redirects=False)
    assert (answer.status_code, "Try again" in answer.text) == (503, True)


def test_an_address_that_cannot_be_listened_at_is_named() -> None:
    with server.listen("127.0.0.1", 0) as at:
        port = at.getsockname()[1]
        assert server.address(at) == f"http://127.0.0.1:{port}/"
        with pytest.raises(SettingsError, match=f"cannot serve at 127.0.0.1, port {port}"):
            server.listen("127.0.0.1", port)
    with pytest.raises(SettingsError, match="cannot serve at no such host"):
        server.listen("no such host", 0)
