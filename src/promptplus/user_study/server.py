"""The server of a study: plain pages that work without JavaScript, and no other hosts.

It reads ``study.json`` and the pictures, never ``key.json``. It needs ``promptplus[study]``.
"""

import hmac
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool

from promptplus.errors import SettingsError, VoteError, first_line
from promptplus.user_study.design import StudyDesign, picture_path
from promptplus.user_study.forms import BeginForm, Form, Refusal, ResumeForm, VoteForm, read_form
from promptplus.user_study.votes import Participant, Progress, Step, VoteStore

STATIC = {"study.css": "text/css", "study.js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PIXELATED = 160  # pixels; smaller pictures are shown with sharp pixels, as any smoothing would hide what they are


class StudyPages:
    """The pages of a study, as functions of requests."""

    def __init__(self, folder: Path, design: StudyDesign, votes: VoteStore, access_code: str | None) -> None:
        self.folder, self.design, self.votes, self.access_code = folder, design, votes, access_code
        self.cookie = f"promptplus-study-{design.id}"  # two studies on one host share cookies
        loader = PackageLoader("promptplus.user_study")
        self.templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
        self.templates.globals.update(design=design, needs_access=bool(access_code))
        self.static = {name: (Path(__file__).parent / "static" / name).read_bytes() for name in STATIC}

    def page(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page from a template."""
        return HTMLResponse(self.templates.get_template(name).render(**values), status)

    def find(self, request: Request) -> Participant | None:
        """Who sends a request; None: nobody that is known."""
        token = request.cookies.get(self.cookie)
        return self.votes.participant(token) if token else None

    def known(self, request: Request) -> Participant:
        """Who sends a request. Raises ``Refusal`` where nobody is known."""
        if (participant := self.find(request)) is None:
            raise Refusal(403, "This browser takes part in no study here. Begin, or go on with your code.")
        return participant

    def welcome(self, request: Request) -> Response:
        """The first page: consent, and the ways in."""
        return self.page("welcome.html", participant=self.find(request), closed=self.votes.closed)

    def begin(self, request: Request, form: BeginForm) -> Response:
        """A new participant."""
        self._check_access(form.access)
        try:
            _, token = self.votes.join()
        except VoteError as error:
            raise Refusal(403, _sentence(error)) from error
        return self._enter(request, token)

    def resume(self, request: Request, form: ResumeForm) -> Response:
        """A participant who goes on, perhaps on another device."""
        self._check_access(form.access)
        try:
            return self._enter(request, self.votes.resume(form.code))
        except VoteError as error:
            raise Refusal(403, _sentence(error)) from error

    def show(self, request: Request) -> Response:
        """The next question, or thanks."""
        participant = self.known(request)
        progress = self.votes.progress(participant)
        if (step := progress.next) is None:
            return self.page("thanks.html", participant=participant)
        return self._step(participant, progress, step)

    def vote(self, request: Request, form: VoteForm) -> Response:
        """Store a vote, then go to the next question. The same vote again is counted once and goes on too."""
        participant = self.known(request)
        try:
            self.votes.vote(participant, Step(form.pair, form.question), form.answer)
        except VoteError as error:
            raise Refusal(409, _sentence(error), "/vote") from error
        return RedirectResponse("/vote", 303)

    def picture(self, request: Request, name: str) -> Response:
        """A picture of the study, for participants alone."""
        self.known(request)
        if name not in self._picture_names:
            raise Refusal(404, "There is no such picture.")
        data = picture_path(self.folder, name.removesuffix(".png")).read_bytes()
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})

    def file(self, name: str) -> Response:
        """The style sheet or the script."""
        if name not in STATIC:
            raise Refusal(404, "There is no such file.")
        return Response(self.static[name], media_type=STATIC[name])

    @property
    def _picture_names(self) -> set[str]:
        return {f"{name}.png" for name in self.design.pictures}

    def _step(self, participant: Participant, progress: Progress, step: Step) -> Response:
        pair = next(pair for pair in self.design.pairs if pair.id == step.pair)
        return self.page(
            "vote.html",
            participant=participant,
            pair=pair,
            question=self.design.question(step.question),
            number=progress.steps.index(step) + 1,
            count=len(progress.steps),
            pixelated=self.design.size < PIXELATED,
        )

    def _enter(self, request: Request, token: str) -> Response:
        response = RedirectResponse("/vote", 303)
        secure = request.url.scheme == "https"
        response.set_cookie(self.cookie, token, max_age=90 * 86400, httponly=True, samesite="lax", secure=secure)
        return response

    def _check_access(self, given: str) -> None:
        if self.access_code and not hmac.compare_digest(given.encode(), self.access_code.encode()):
            raise Refusal(403, "The access code is not right. It is in your invitation.")


def create_app(folder: Path, design: StudyDesign, votes: VoteStore, access_code: str | None = None) -> FastAPI:
    """The web application of a study.

    Args:
        folder: of the study.
        design: its ``study.json``.
        votes: where votes are kept.
        access_code: what participants must give to begin; None: nothing.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pages = StudyPages(folder, design, votes, access_code)

    @app.middleware("http")
    async def guard(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            response = await call(request)
        except sqlite3.Error:
            response = pages.page(
                "error.html", 503, message="The answer could not be stored. Try again.", way_on="/vote"
            )
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(Refusal)
    async def refuse(_request: Request, refusal: Refusal) -> Response:
        return pages.page("error.html", refusal.status, message=refusal.message, way_on=refusal.way_on)

    @app.exception_handler(404)
    async def nothing(_request: Request, _error: Exception) -> Response:
        return pages.page("error.html", 404, message="There is no such page.", way_on="/")

    def get(path: str, function: Callable[..., Response]) -> None:
        app.add_api_route(path, function, methods=["GET"], response_model=None)

    get("/", pages.welcome)
    get("/vote", pages.show)
    get("/pictures/{name}", pages.picture)
    get("/static/{name}", pages.file)

    def post(path: str, kind: type[Form], function: Callable[[Request, Any], Response]) -> None:
        async def answer(request: Request) -> Response:
            form = await read_form(request, kind)
            return await run_in_threadpool(function, request, form)

        app.add_api_route(path, answer, methods=["POST"], response_model=None)

    post("/begin", BeginForm, pages.begin)
    post("/resume", ResumeForm, pages.resume)
    post("/vote", VoteForm, pages.vote)
    return app


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0: any free one. Raises SettingsError where that cannot be."""
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen()
    except (OSError, UnicodeError) as error:
        found.close()
        raise SettingsError(f"cannot serve at {host}, port {port} ({first_line(error)}); give another one") from error
    return found


def address(at: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = at.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(app: FastAPI, at: socket.socket) -> None:
    """Serve until a signal stops it."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[at])


def _sentence(error: Exception) -> str:
    text = first_line(error)
    return f"{text[0].upper()}{text[1:]}."
