"""A live model behind the page: it answers the prompts of a file while people judge, and those that a person writes on the page.

Its n answers become an item like any other. A person who asks is served between two prompts of the file, not after the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

from starlette.responses import JSONResponse, Response

from posttrain.core.chat import as_chat
from posttrain.core.group import Group
from posttrain.core.protocols import Model, Request, Sampling
from posttrain.feedback import items
from posttrain.feedback.accounts import Refused
from posttrain.feedback.server.call import Call
from posttrain.feedback.server.shapes import Ask, parsed
from posttrain.feedback.server.work import queue_of


@dataclass
class Live:
    """A model that answers while people annotate. One prompt at a time: the model's own batching is for the sampler, not for us."""

    model: Model
    n: int = 4
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    asked: int = 0
    lock: Lock = field(default_factory=Lock)

    def answer(self, group: Group) -> Group:
        """The prompt of a group with n answers, always the same ones for the same prompt. Raises ValueError where it is too long."""
        request = Request(
            group.prompt, self.sampling, self.n, self.seed, group.id, facts=group.facts, tools=group.tools
        )
        with self.lock:
            return self.model.generate([request])[0]


def ask(call: Call) -> Response:
    """``POST /ask``: answer a prompt and put it at the front of the queue."""
    given: Ask = parsed(Ask, call.fields)
    live: Live | None = call.request.app.state.live
    if live is None:
        raise Refused("no model answers here; start with --model", 404)
    with live.lock:
        live.asked += 1
        request = Request(
            as_chat(given.prompt), live.sampling, live.n, live.seed + live.asked, facts={"source": "live"}
        )
        try:
            made = live.model.generate([request])
        except ValueError as error:
            raise Refused(str(error), 400) from None
    with call.ledger.write() as connection:
        queue = queue_of(call, connection, given.queue)
        told = items.add(connection, queue, made, front=True)
    return JSONResponse({"added": told.items, "note": told.describe()}, 201)
