"""What the API takes and gives, as pydantic models: one definition for the checks and for ``/openapi.json``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from posttrain.feedback.accounts import Refused

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Place = Annotated[int, Field(ge=0, le=7)]
Prose = Annotated[str, StringConstraints(max_length=10_000)]


class Given(BaseModel):
    """A request's body; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=False)


class Span(Given):
    """A marked passage: characters of the raw text of the answer shown at a place."""

    response: Place
    start: Annotated[int, Field(ge=0, le=10_000_000)]
    end: Annotated[int, Field(ge=1, le=10_000_000)]
    label: Annotated[str, StringConstraints(max_length=200)] = ""
    comment: Prose = ""


class Submission(Given):
    """An answer to a task. All numbers of answers are places as shown: the server knows the order it showed and stores keys."""

    task: Id
    client: Id
    """The client's own id of this submission: sending it again changes nothing."""
    kind: Literal["ranking", "both_bad", "rating", "label", "write", "edit", "skip"]
    ranking: Annotated[str, StringConstraints(max_length=200)] | None = None
    """As typed: `0 > 1 = 2`."""
    ratings: dict[Place, dict[Annotated[str, StringConstraints(max_length=50)], Annotated[int, Field(ge=1, le=5)]]] = {}
    labels: dict[Place, bool] = {}
    spans: Annotated[list[Span], Field(max_length=200)] = []
    text: Annotated[str, StringConstraints(max_length=100_000)] | None = None
    edits: Place | None = None
    comment: Prose = ""
    reason: Prose = ""
    flag: Prose = ""
    confidence: Annotated[int, Field(ge=1, le=3)] | None = None
    seconds: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)] | None = None
    focus_losses: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    version: Annotated[str, StringConstraints(pattern=r"^[\w.-]{0,32}$")] = ""


class Draft(Given):
    """Unfinished work on a task, as the page wants it back."""

    task: Id
    body: dict[str, Any]


class Undo(Given):
    """Take the last answer back."""

    client: Id
    queue: Id | None = None


class Ask(Given):
    """A prompt for the live model."""

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
    queue: Id | None = None


def parsed(model: type[Given], fields: dict[str, Any]) -> Any:
    """The body as a model. Raises Refused (400) with the first fault, never the whole input."""
    try:
        return model.model_validate({k: v for k, v in fields.items() if k != "csrf"})
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise Refused("the request is nested too deeply", 400) from None
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(p) for p in first["loc"])[:100]
        raise Refused(f"{where}: {first['msg']}", 400) from None
