"""`Policy`: answers as the sampler, log-probabilities and scores as plain transformers, hidden states at named places."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

import posttrain
from posttrain.core.chat import as_chat
from posttrain.core.group import Group, document, group
from posttrain.core.needs import Needs
from posttrain.core.protocols import Request, Sampling, Scorer
from posttrain.models.heads import for_needs
from posttrain.models.load import load, save
from posttrain.rollout.policy import Policy
from tests.models.tiny import tiny_directory

PAIR = group("What is two plus two?", "four", "Two plus two is five.")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_directory(tmp_path_factory.mktemp("policy") / "llama", "llama")


@pytest.fixture(scope="module")
def policy(place: Path) -> Policy:
    return Policy.open(place)


@pytest.fixture(scope="module")
def judge(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    loaded = load(place)
    made = for_needs(loaded, Needs(score=1))
    out = tmp_path_factory.mktemp("reward") / "model"
    save(loaded, out, heads=nn.ModuleDict(made).state_dict())
    return Policy.open(out.parent)  # a run: its model/ is found


def plain_logits(place: Path, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)(torch.tensor([ids])).logits[0]


def test_logp_is_the_model_s_own_shifted_by_one(policy: Policy, place: Path) -> None:
    (chosen, rejected), (alone,) = policy.logp([PAIR, document("Two plus two is four.")])
    rendered = policy.renderer.render(PAIR)
    assert rendered is not None
    for mine, response in zip((chosen, rejected), rendered.responses):
        prompt, answer = list(rendered.prompt_tokens), list(response.tokens)
        assert answer[-1] in policy.loaded.stops and len(mine) == len(answer)
        logp = plain_logits(place, prompt + answer).log_softmax(-1)
        right = logp[torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1), torch.tensor(answer)]
        assert mine.dtype == torch.float32 and not mine.requires_grad
        torch.testing.assert_close(mine, right, rtol=0, atol=1e-5)
    assert alone.ndim == 1 and len(alone) > 3


def test_logp_of_samples_is_what_the_sampler_saw(policy: Policy) -> None:
    (made,) = policy.generate([Request(as_chat("hello!"), Sampling(max_tokens=12), n=3, seed=5)])
    for mine, response in zip(policy.logp([made])[0], made.responses):
        torch.testing.assert_close(mine, torch.tensor(response.logps), rtol=0, atol=1e-4)


def test_groups_without_answers_and_many_groups_keep_their_order(policy: Policy) -> None:
    empty = Group(as_chat("hello!"))
    many = [PAIR, empty, *[group(f"{i}?", "four " * (i % 5 + 1)) for i in range(70)]]
    found = policy.logp(many)
    assert [len(f) for f in found] == [2, 0, *[1] * 70]
    torch.testing.assert_close(found[40][0], policy.logp([many[40]])[0][0], rtol=0, atol=1e-5)
    assert policy.logp([]) == [] and policy.logp([empty]) == [[]]


def test_it_is_a_model(policy: Policy) -> None:
    assert isinstance(policy, Scorer)
    request = Request(as_chat("hello!"), Sampling(temperature=1.0, max_tokens=8), n=2, seed=3, id="a")
    (made,) = policy.generate([request])
    told = {0: "", 1: ""}
    for event in policy.stream([request]):
        told[event.index] += event.text
    assert [r.text for r in made.responses] == [told[0], told[1]]
    once = policy.chat("hello!", max_tokens=8, seed=4)
    assert once == policy.chat("hello!", max_tokens=8, seed=4)
    assert once != policy.chat("hello!", max_tokens=8, seed=5)


def test_scores_do_not_depend_on_company_or_on_foreign_tokens(judge: Policy) -> None:
    ((a, b),) = judge.score([PAIR])
    assert a != b and isinstance(a, float)
    ((alone,),) = judge.score([PAIR.with_responses(PAIR.responses[1:])])
    assert alone == pytest.approx(b, abs=1e-5)
    foreign = PAIR.with_responses([replace(r, tokens=[1], trained=[1]) for r in PAIR.responses])
    assert judge.score([foreign])[0] == pytest.approx([a, b], abs=1e-5)


def test_the_score_is_the_head_on_the_last_trained_token(judge: Policy) -> None:
    rendered = judge.renderer.render(PAIR)
    assert rendered is not None
    ids = torch.tensor([[*rendered.prompt_tokens, *rendered.responses[0].tokens]])
    with torch.no_grad():
        state = judge.loaded.model.model(input_ids=ids).last_hidden_state[0, -1]
    ((found, _),) = judge.score([PAIR])
    weight = judge.engine.heads["score"].weight.detach()[0]
    assert found == pytest.approx(float(state @ weight), abs=1e-5)


def test_hidden_states_are_those_of_transformers(policy: Policy, place: Path) -> None:
    texts = ["Two plus two", "hello! Paris"]
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    for layer in (0, 1, 2, -1):
        found = policy.hidden(texts, layer)
        assert found.shape == (2, 32) and found.dtype == torch.float32
        for row, text in zip(found, texts):
            ids = [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
            with torch.no_grad():
                states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
            torch.testing.assert_close(row, states[-1], rtol=0, atol=1e-5)
            torch.testing.assert_close(policy.hidden([text], layer, "mean")[0], states[1:].mean(0), rtol=0, atol=1e-5)
            torch.testing.assert_close(policy.hidden([text], layer, 1)[0], states[1], rtol=0, atol=1e-5)
            torch.testing.assert_close(policy.hidden([text], layer, -2)[0], states[-2], rtol=0, atol=1e-5)
    chat = policy.hidden([PAIR.prompt])
    assert not torch.allclose(chat[0], policy.hidden([PAIR.prompt_text])[0])


def test_bad_input_gets_one_clear_line(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no score head beside the model"):
        policy.score([PAIR])
    with pytest.raises(ValueError, match=r"layer 3: this model has 0 \(embeddings\) to 2"):
        policy.hidden(["a"], layer=3)
    with pytest.raises(ValueError, match="there is none at position 9"):
        policy.hidden(["a"], position=9)
    with pytest.raises(ValueError, match="accepted: last, mean"):
        policy.hidden(["a"], position="first")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="text 0 is empty"):
        policy.hidden([""])
    with pytest.raises(ValueError, match="the limit is 512"):
        policy.logp([group("hello!", "four " * 900)])
    with pytest.raises(ValueError, match="no such directory"):
        Policy.open(tmp_path / "nowhere")


def test_importing_the_package_loads_nothing_heavy() -> None:
    told = (
        "import sys, posttrain; posttrain.__version__; dir(posttrain); from posttrain import Message, group; "
        "print([m for m in ('torch', 'transformers', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, cwd=ROOT / "src", check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in posttrain.__all__:
        assert getattr(posttrain, name) is not None
    assert posttrain.objectives.ranking.bradley_terry is not None
    assert set(posttrain.__all__) <= set(dir(posttrain))
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        posttrain.Trainer  # noqa: B018


def test_the_version_is_the_project_s() -> None:
    import tomllib

    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert posttrain.__version__ == told["project"]["version"]
