"""The forms that participants send, read within narrow limits."""

import re
from typing import Literal, TypeVar
from urllib.parse import parse_qs

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promptplus.errors import first_line
from promptplus.user_study.design import Answer, Name, PairId

MAX_BODY = 4096  # bytes of a form; ours have about 100
MAX_FIELDS = 8  # ours have at most 3


class Form(BaseModel):
    """A form with no other fields than its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BeginForm(Form):
    """The form of the first page."""

    consent: Literal["yes"]
    access: str = Field("", max_length=200)


class ResumeForm(Form):
    """The form to go on with a participant code."""

    code: str = Field(max_length=40)
    access: str = Field("", max_length=200)


class VoteForm(Form):
    """The form of a vote."""

    pair: PairId
    question: Name
    answer: Answer


class Refusal(Exception):
    """A request that is answered with an error page, and where its button leads."""

    def __init__(self, status: int, message: str, way_on: str = "/") -> None:
        super().__init__(message)
        self.status, self.message, self.way_on = status, message, way_on


Kind = TypeVar("Kind", bound=Form)


async def read_form(request: Request, kind: type[Kind]) -> Kind:
    """The fields of a form. Raises ``Refusal`` where it is too large, or no such form."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY:
            raise Refusal(413, "The form is too large.")
    try:
        fields = parse_qs(data.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
        if any(len(values) > 1 for values in fields.values()):
            raise ValueError("a field is there twice")
        return kind.model_validate({name: value for name, (value,) in fields.items()})
    except ValidationError as error:
        missing = error.errors()[0]["loc"] == ("consent",)
        raise Refusal(422, "Say that you agree to begin." if missing else "This is no form of this study.") from error
    except ValueError as error:
        raise Refusal(422, f"This is no form of this study ({re.sub('[^a-zA-Z ]', '', first_line(error))}).") from error
