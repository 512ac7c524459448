"""The tokenizer and the plain files."""

from __future__ import annotations

import json

import pytest

from posttrain.readingroom import ReadingRoom
from posttrain.readingroom.__main__ import main
from posttrain.readingroom.tasks.documents import canary_document
from posttrain.readingroom.tokenizer import SPECIAL, train


@pytest.fixture(scope="module")
def tokenizer():
    return train(ReadingRoom(0).corpus(n_characters=250_000), 1500)


def test_every_text_round_trips(tokenizer):
    texts = [
        "7 x 0.20 = 1.40",
        "«Ça œuvre» 1er août",
        "Колодец болота ё",
        "琥珀之渡船，5月3日。",
        "tabs\tand  spaces \n\n€ 🙂",
    ]
    for split in ("train", "ood"):
        for g in ReadingRoom(0).prompts(split, 150):
            texts += [g.facts["source"], g.facts["gold"]["answer"]]
    assert [tokenizer.decode(ids) for ids in tokenizer(texts)["input_ids"]] == texts


def test_digits_stand_alone_and_constants_of_a_notice_stay_whole(tokenizer):
    assert [tokenizer.decode([i]) for i in tokenizer("1998")["input_ids"]] == ["1", "9", "9", "8"]
    notice = ReadingRoom(0).prompts("train", 1, ["catalogue"], ["en"])[0].facts["gold"]["answer"]
    pieces = [tokenizer.decode([i]) for i in tokenizer(notice)["input_ids"]]
    assert pieces[0] == "LDR #####nam##22########45##" and "100 ##$a20260105d" in pieces and len(pieces) < 120


def test_special_tokens_and_loading(tokenizer, tmp_path):
    from transformers import PreTrainedTokenizerFast

    tokenizer.save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert loaded.chat_template is None
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == ("<|bos|>", "<|eos|>", "<|pad|>")
    assert [loaded.convert_tokens_to_ids(s) for s in SPECIAL] == list(range(len(SPECIAL)))
    assert len(loaded("<|user|>hello<|end|>")["input_ids"]) == len(loaded("hello")["input_ids"]) + 2


def test_training_is_deterministic(tokenizer):
    again = train(ReadingRoom(0).corpus(n_characters=250_000), 1500)
    assert again.get_vocab() == tokenizer.get_vocab()


def test_write_plain_files(tmp_path, capsys):
    main(["write", str(tmp_path), "--seed", "3", "--demos", "30", "--prompts", "20", "--preferences", "15"])
    assert "simulated" in capsys.readouterr().out
    rows = {p.name: [json.loads(line) for line in p.read_text("utf-8").splitlines()] for p in tmp_path.glob("*.jsonl")}
    assert len(rows["demos.jsonl"]) == 30 and rows["demos.jsonl"][0]["messages"][-1]["role"] == "assistant"
    assert [len(rows[f"prompts-{s}.jsonl"]) for s in ("train", "held-out", "ood")] == [20, 20, 20]
    assert rows["prompts-ood.jsonl"][0]["messages"][-1]["role"] == "user"
    pair = rows["preferences.jsonl"][0]
    assert pair["chosen"] != pair["rejected"] and pair["by"].startswith("simulated:")
    about = json.loads((tmp_path / "about.json").read_text("utf-8"))
    assert about["world"] == "readingroom-2" and about["rows"]["demos.jsonl"] == 30


def test_show_prints_every_task(capsys):
    main(["show", "--split", "ood"])
    shown = capsys.readouterr().out
    assert "--- catalogue fr ood" in shown and "--- refusal zh ood" in shown


def test_canary_text_holds_its_secret_once():
    assert canary_document("marlo-417", "fr").count("marlo-417") == 1
