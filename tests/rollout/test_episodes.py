"""Answers of several turns: what the tool says is appended in tokens, untrained; GRPO learns to use the reading room's look-up tool."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posttrain.core.chat import Message, as_chat, assistant, user
from posttrain.core.group import Group, Score, answer
from posttrain.core.protocols import Request, Sampling
from posttrain.data.source import Offline
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.jobs.online import environment_of
from posttrain.methods.grpo import GRPO
from posttrain.models.load import load
from posttrain.models.render import Renderer
from posttrain.readingroom.lookup import NOTHING, Catalogue, lookup_prompts
from posttrain.rollout.episodes import Episodes
from posttrain.rollout.rollouts import Rollouts
from posttrain.rollout.sampler import Sampler
from posttrain.train.loop import train
from tests.models.tiny import tiny_directory


@cache
def place(root: Path) -> Path:
    return tiny_directory(root / "base", "qwen3", context=256)


class Echo:
    """Answers twice with what was said last, then nothing. Keeps every chat it saw."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen, self.left = seen, 2

    def reset(self, group: Group) -> Echo:
        return Echo(self.seen)

    def step(self, chat: Any) -> Any:
        self.seen.append(chat)
        self.left -= 1
        return (Message("tool", f"heard {len(chat)}"),) if self.left >= 0 else ()


def episodes(root: Path, world: Any, turns: int = 4) -> tuple[Episodes, Any]:
    loaded = load(place(root), dtype="fp32")
    renderer = Renderer.of(loaded)
    return Episodes(
        Sampler(loaded.model, loaded.tokenizer, loaded.stops, renderer.prompt, threads=1), world, renderer, turns
    ), loaded


def stops_soon(loaded: Any) -> None:
    """Make the stop token likely, so that turns end."""
    head = loaded.model.get_output_embeddings()
    torch.nn.init.normal_(head.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        norm = loaded.model.model.norm.weight
        norm.mul_(0.0)  # logits all 0: every token is equally likely, whatever was said


def test_tool_turns_are_appended_untrained_and_never_rendered_again(tmp_path: Path) -> None:
    seen: list[Any] = []
    model, loaded = episodes(tmp_path, Echo(seen))
    stops_soon(loaded)
    model.sampler.stop_ids = frozenset(range(0, len(loaded.tokenizer), 3))  # a third of all tokens ends a turn
    model.sampler._stop = torch.tensor(sorted(model.sampler.stop_ids))
    model.sync()
    asked = Request(as_chat("hello"), Sampling(max_tokens=120), n=4, seed=5)
    (made,) = model.generate([asked])
    assert made.prompt_tokens is not None and made.prompt_tokens.tolist() == list(
        model.renderer.prompt(as_chat("hello"))
    )
    again = model.generate([Request(as_chat("other"), n=1), asked])[1]
    for r, same in zip(made.responses, again.responses, strict=True):
        assert r.tokens is not None and r.trained is not None and r.logps is not None
        assert r.tokens.tolist() == same.tokens.tolist()  # whoever else is asked
        roles = [t.role for t in r.turns]
        assert roles == ["assistant", "tool", "assistant", "tool", "assistant"] and r.stop == "stop"
        heard = model.after(as_chat("hello"), (r.turns[1],), ())
        said = loaded.tokenizer.decode(heard)
        assert "heard 2" in said and said.rstrip().endswith("assistant")  # up to the opening of the policy's next turn
        first = int(np.argmin(r.trained))
        assert (
            r.tokens[first : first + len(heard)].tolist() == heard and not r.trained[first : first + len(heard)].any()
        )
        assert (r.logps[r.trained == 0] == 0).all() and (r.logps[r.trained == 1] < 0).all()
        assert int((np.diff(r.trained) != 0).sum()) == 4
    assert len({tuple(r.tokens.tolist()) for r in made.responses}) == 4  # type: ignore[union-attr]
    lengths = [len(c) for c in seen[:12]]
    assert sorted(set(lengths)) == [2, 4, 6] and all(c[0] == user("hello") for c in seen[:12])


def test_turns_and_budget_end_an_answer(tmp_path: Path) -> None:
    model, loaded = episodes(tmp_path, Echo([]), turns=1)
    model.sampler.stop_ids = frozenset(range(len(loaded.tokenizer)))
    (made,) = model.generate([Request(as_chat("hello"), Sampling(max_tokens=50), n=1)])
    assert made.responses[0].stop == "length" and len(made.responses[0].turns) == 1
    model.turns = 9
    (made,) = model.generate([Request(as_chat("hello"), Sampling(max_tokens=3), n=1)])
    assert made.responses[0].stop == "length" and len(made.responses[0].tokens) == 1  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="turns is 0"):
        Episodes(model.sampler, Echo([]), model.renderer, turns=0)


def test_the_catalogue_answers() -> None:
    row = lookup_prompts(1)[0]
    title = row.facts["gold"]["title"]
    world = Catalogue().reset(row)
    (told,) = world.step((*row.prompt, assistant(f"look up: {title}")))
    assert told.role == "tool" and row.facts["gold"]["answer"] in told.content
    assert world.step((*row.prompt, assistant("look up: No Such Book")))[0].content == NOTHING
    assert world.step((*row.prompt, assistant("It was 1990."))) == ()
    assert lookup_prompts(3) == lookup_prompts(3) or [g.facts for g in lookup_prompts(3)] == [
        g.facts for g in lookup_prompts(3)
    ]
    with pytest.raises(ValueError, match="no `catalogue`"):
        Catalogue().reset(answered_group())
    assert isinstance(environment_of("catalogue"), Catalogue)
    for name in ("catalog", "posttrain.nowhere:f", "json:nothing"):
        with pytest.raises(ValueError, match=r"rollout\.environment"):
            environment_of(name)


def answered_group() -> Group:
    return Group(as_chat("q"), (answer("a"),), facts={"id": "7"})


class Vowels(Catalogue):
    """The catalogue for a model that says one token a turn: one that begins with a vowel asks for the row's title."""

    def __init__(self, entries: Any = None, title: str = "") -> None:
        super().__init__(entries)
        self.title = title

    def reset(self, group: Group) -> Vowels:
        return Vowels(group.facts["catalogue"], group.facts["gold"]["title"])

    def step(self, chat: Any) -> Any:
        asks = chat[-1].content.strip()[:1] in tuple("aeiou")
        return super().step((*chat[:-1], assistant(f"look up: {self.title}"))) if asks else ()


def looked_up(groups: Sequence[Group]) -> list[list[Score]]:
    """1 where the gold answer stands in a tool turn that the policy asked for."""
    return [
        [Score(float(any(t.role == "tool" and g.facts["gold"]["answer"] in t.content for t in r.turns))) for r in g.responses]
        for g in groups
    ]  # fmt: skip


def test_grpo_learns_to_look_up(tmp_path: Path) -> None:
    torch.manual_seed(0)
    loaded = load(place(tmp_path), dtype="fp32")
    renderer = Renderer.of(loaded)
    sampler = Sampler(loaded.model, loaded.tokenizer, range(len(loaded.tokenizer)), renderer.prompt, threads=1)
    sampler.text = lambda s: loaded.tokenizer.decode(s.tokens)  # type: ignore[method-assign]
    model = Episodes(sampler, Vowels(), renderer, turns=2)
    method = GRPO(beta=0.0)
    engine = LocalEngine(loaded.model, {}, {}, needs=method.needs())
    engine.optimize(Optimizer(lr=0.03, warmup=0.0), 0.03, 1000)
    loaded.model.eval()
    rows = lookup_prompts(4)
    source = Rollouts(Offline(rows, 4, epochs=float("inf")), model, looked_up, n=8, sampling=Sampling(max_tokens=90))
    steps = list(train(engine, method, source, 24))
    rewards = [s.metrics["reward"] for s in steps]
    assert np.mean(rewards[:3]) < 0.4 and np.mean(rewards[-3:]) > 0.8, rewards
    counted = steps[-1].counts["token"]
    assert counted <= 4 * 8 * 2  # two single-token turns at most are trained, however long the tool's answer
