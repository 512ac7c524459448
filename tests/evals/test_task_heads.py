"""Task heads from rows to directories: what was trained is what the library loads, for encoders and causal models, whole or by LoRA."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from posttrain.core.chat import Message, user
from posttrain.core.group import Group, Mark, Response, Score
from posttrain.data.read import read
from posttrain.jobs.evaluate_task import measure
from posttrain.jobs.job import Context
from posttrain.jobs.new_encoder import NewEncoder
from posttrain.jobs.train import Train
from posttrain.methods.embed import contrast
from posttrain.methods.tag import bio
from posttrain.models.task_models import TaskModel, task_of
from posttrain.models.texts import TextRenderer
from posttrain.readingroom.room import ReadingRoom
from posttrain.readingroom.spans import asked_notices, tagged_notices
from tests.jobs.tiny_run import base

QUIET = Context(bars=False)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two layers of BERT, four steps of masked language modelling."""
    place = tmp_path_factory.mktemp("encoder")
    rows = place / "docs.jsonl"
    rows.write_text("".join(json.dumps({"text": t}) + "\n" for t in ReadingRoom(0).corpus(40)), encoding="utf-8")
    shape = {"vocabulary": 500, "hidden": 32, "layers": 2, "heads": 2, "ffn": 64, "context": 512}
    NewEncoder(data=str(rows), out=str(place / "new"), **shape).run(QUIET)
    fields = {"steps": 4, "batch": 8, "overlong": "drop", "accept": ("D1",), "log_to": ()}
    made = Train(model=str(place / "new"), method="masked_lm", data=str(rows), out=str(place / "mlm"), **fields)
    return str(made.run(QUIET).path)


def doc(text: str, **fields: object) -> Response:
    return Response(turns=(Message("document", text),), **fields)  # type: ignore[arg-type]


def classed(n: int = 12) -> list[Group]:
    return [Group((), (doc(f"a {c} book {i}", marks=(Mark(c),)),)) for i, c in enumerate(["red", "blue"] * (n // 2))]


def numbered(n: int = 12) -> list[Group]:
    return [Group((), (doc(f"book {i}", score=Score(float(i))),)) for i in range(n)]


def chosen(n: int = 12) -> list[Group]:
    answers = (doc("this", label=True), doc("that", label=False), doc("none of them", label=False))
    return [Group((user(f"which book {i}?"),), answers) for i in range(n)]


def near(n: int = 12) -> list[Group]:
    return [Group((), (doc(f"question {i}"), doc(f"answer {i}", label=True), doc("no", label=False))) for i in range(n)]


def trained(model: str, method: object, rows: list[Group], out: Path, **more: object) -> str:
    fields = {"steps": 2, "batch": 4, "log_to": (), **more}
    run = Train(model=model, method=method, data=rows, out=str(out), **fields).run(QUIET)  # type: ignore[arg-type]
    return str(run.model)


CASES = {
    "sequence_classification": (classed, "f1"),
    "regression": (numbered, "r2"),
    "token_classification": (lambda: tagged_notices(12), "f1"),
    "question_answering": (lambda: asked_notices(12), "f1"),
    "multiple_choice": (chosen, "accuracy"),
    "contrastive": (near, "mrr"),
}


@pytest.mark.parametrize("method", CASES)
def test_encoder_heads_train_load_and_measure(encoder: str, tmp_path: Path, method: str) -> None:
    rows, figure = CASES[method]
    whole = trained(encoder, method, rows(), tmp_path / "whole")
    figures, told = measure(whole, rows())
    assert figure in figures and len(told) == 12
    low = trained(encoder, method, rows(), tmp_path / "lora", lora={"rank": 2})
    assert task_of(low) == task_of(whole)


def test_causal_head_gives_the_scores_that_it_was_trained_with(tmp_path: Path) -> None:
    """The engine's score at the last token equals what `AutoModelForSequenceClassification` says of the padded texts."""
    from posttrain.engine.local import LocalEngine
    from posttrain.models import heads, tasks
    from posttrain.models.adapters import Lora, add_lora

    method = {"name": "sequence_classification", "labels": ("red", "blue")}
    made = Train(model=base(tmp_path), method=method, data=classed(), out="unused").method
    for lora in (False, True):
        loaded = tasks.load_for_task(base(tmp_path), made.task, made.labels, made.needs(), "fp32", "cpu")
        if lora:
            add_lora(loaded, Lora(rank=2))
            with torch.no_grad():
                for name, p in loaded.model.named_parameters():
                    p.add_(0.05 * torch.randn_like(p)) if "lora_B" in name else None
        engine = LocalEngine(loaded.model, heads.for_needs(loaded, made.needs()), needs=made.needs())
        renderer = TextRenderer(loaded.tokenizer)
        batch = made.batch(list(renderer.render_many(classed())), engine)
        ours = engine.score(batch, made.needs()).score
        out = tasks.save_task(loaded, engine.heads, made.task, made.labels, tmp_path / f"m{lora}", None)
        theirs = TaskModel(out).logits([g.responses[0].text for g in classed()])
        assert ours is not None and np.allclose(ours.numpy(), theirs, atol=1e-5)
        assert TaskModel(out).labels == ("red", "blue")


def test_pipelines_load_what_was_written(encoder: str, tmp_path: Path) -> None:
    from transformers import pipeline

    where = trained(encoder, "sequence_classification", classed(), tmp_path / "c")
    said = pipeline("text-classification", model=where, device="cpu")("a red book 0")[0]
    assert said["label"] in ("red", "blue") and said["label"] == TaskModel(where).classes(["a red book 0"])[0]
    text = "Anna Kern reads"
    people = [Group((), (doc(text, marks=(Mark("PER", 0, 9),)),))] * 8
    causal = trained(base(tmp_path), "token_classification", people, tmp_path / "t")
    told = pipeline("token-classification", model=causal, device="cpu", ignore_labels=[])(text)
    tags = [t["entity"] for t in told if t["start"] is not None and t["start"] < t["end"]]
    assert tags == TaskModel(causal).tags([text])[0]


def test_sentence_transformers_gives_the_same_embeddings(encoder: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["question 1", "a much longer answer to it", "no"]
    for start in (encoder, base(tmp_path)):
        out = trained(start, {"name": "contrastive", "dimensions": (8,)}, near(), tmp_path / Path(start).name)
        made = SentenceTransformer(out, device="cpu").encode(texts, normalize_embeddings=False)
        assert np.allclose(made, TaskModel(out).embed(texts), atol=1e-5)
        assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


def test_peft_loads_the_adapter(encoder: str, tmp_path: Path) -> None:
    from peft import AutoPeftModelForSequenceClassification

    lora = {"rank": 2, "save": "adapter"}
    out = trained(encoder, "sequence_classification", classed(), tmp_path / "a", lora=lora)
    model = AutoPeftModelForSequenceClassification.from_pretrained(out, num_labels=2)
    assert any("lora_A" in n for n, _ in model.named_parameters())


def test_contrast_is_multiple_negatives_ranking() -> None:
    """Against the loss written with `torch` alone: cross-entropy of scaled cosine similarities over all positives and negatives."""
    torch.manual_seed(0)
    bank = torch.randn(6, 5, dtype=torch.float64)
    label = torch.tensor([float("nan"), 1, 0, float("nan"), 1, 0], dtype=torch.float64)
    key = torch.tensor([7.0, 7, 7, 9, 9, 9], dtype=torch.float64)
    unit = torch.nn.functional.normalize(bank, dim=-1)
    logits = unit[[0, 3]] @ unit[[1, 2, 4, 5]].T / 0.05
    wanted = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2]), reduction="none")
    made = contrast(bank, label, key, 0.05)
    assert torch.allclose(made[[1, 4]], wanted) and made[[0, 2, 3, 5]].abs().sum() == 0
    cut = contrast(bank, label, key, 0.05, (2,))
    assert torch.allclose(cut, (made + contrast(bank[:, :2], label, key, 0.05)) / 2)


def test_files_of_the_field_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(
        "-DOCSTART- O\n\nAnna NNP B-PER\nKern NNP I-PER\nreads VB O\n\nHaywick NNP B-LOC\n"
    )
    tagged = read(tmp_path / "a.conll").groups
    assert tagged[0].responses[0].marks == (Mark("PER", 0, 9),) and tagged[1].responses[0].text == "Haywick"
    article = {"title": "t", "paragraphs": [{"context": "Anna reads.", "qas": [
        {"id": "1", "question": "Who?", "answers": [{"text": "Anna", "answer_start": 0}]},
        {"id": "2", "question": "Why?", "is_impossible": True, "answers": []}]}]}  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps({"version": "2", "data": [article]}))
    who, why = read(tmp_path / "s.json").groups
    assert (
        who.responses[0].marks == (Mark("answer", 0, 4),) and why.responses[0].marks == () and who.prompt_text == "Who?"
    )
    (tmp_path / "c.jsonl").write_text(json.dumps({"question": "q", "choices": ["x", "y"], "answer": "B"}) + "\n")
    assert [r.label for r in read(tmp_path / "c.jsonl").groups[0].responses] == [False, True]
    (tmp_path / "e.csv").write_text("anchor,positive,negative\na,b,c\n")
    assert [r.label for r in read(tmp_path / "e.csv").groups[0].responses] == [None, True, False]
    (tmp_path / "n.csv").write_text("text,score\nfine,0.5\n")
    assert read(tmp_path / "n.csv").groups[0].responses[0].score == Score(0.5)


def test_wrong_rows_get_one_line(tmp_path: Path, encoder: str) -> None:
    (tmp_path / "a.conll").write_text("Anna\n\n")
    with pytest.raises(ValueError, match=r"a.conll:1: line 1 holds 'Anna': a token and its tag"):
        read(tmp_path / "a.conll")
    answers = {"text": ["Anna"], "answer_start": [3]}
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "q", "context": "Anna reads", "answers": answers}) + "\n")
    with pytest.raises(ValueError, match="does not stand at character 3"):
        read(tmp_path / "q.jsonl")
    with pytest.raises(ValueError, match="needs an encoder"):
        trained(base(tmp_path), {"name": "masked_lm", "mask_id": 1}, [Group((), (doc("x y"),))], tmp_path / "m")
    with pytest.raises(ValueError, match="one class only"):
        trained(encoder, "sequence_classification", classed()[:1], tmp_path / "one")
    with pytest.raises(ValueError, match="labels are not cut"):
        trained(encoder, "sequence_classification", classed(), tmp_path / "cut", overlong="truncate")


def test_bio_and_back() -> None:
    offsets = np.asarray([(0, 2), (2, 5), (6, 8), (0, 0)])
    assert bio(offsets, (Mark("x", 0, 5), Mark("x", 6, 8))) == ["B-x", "I-x", "B-x", None]
    assert bio(offsets, ()) == ["O", "O", "O", None]


def test_masked_tokens_change_by_step_and_resume() -> None:
    from posttrain.methods.mlm import MaskedLM

    one, two = MaskedLM(), MaskedLM()
    groups = one.example().groups
    first = one.arrange(groups)[0].responses[0].tokens
    one.after(1, {}, None)  # type: ignore[arg-type]
    second = one.arrange(groups)[0].responses[0].tokens
    assert not np.array_equal(first, second)
    two.load(one.state())
    assert np.array_equal(two.arrange(groups)[0].responses[0].tokens, second)
