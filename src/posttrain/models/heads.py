"""Heads beside the language model: scores of whole answers, values of states; and reward models in the library's own format.

A score head is a linear map without bias in fp32, read at the last trained token; its init is N(0, 1/(d+1)) as in Stiennon et al.
2020 (arXiv:2009.01325). A value head starts at zero, so that the first advantages are the rewards'. `export_reward_model` writes a
directory that `AutoModelForSequenceClassification` reads with equal scores: pad differs from eos, rows end at their stop token.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from posttrain.models.trunk import is_encoder

if TYPE_CHECKING:
    from posttrain.core.needs import Needs
    from posttrain.models.load import Loaded

FILE = "heads.safetensors"


class LinearHead(nn.Linear):
    """hidden [..., d] -> [..., k], computed in fp32 whatever the model holds."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.to(self.weight.dtype))


def score_head(width: int, outputs: int = 1, generator: torch.Generator | None = None) -> LinearHead:
    """A fresh score head. width: d of the hidden states; standard deviation 1/sqrt(d + 1), no bias."""
    head = LinearHead(width, outputs, bias=False, dtype=torch.float32)
    with torch.no_grad():
        head.weight.normal_(0.0, 1 / math.sqrt(width + 1), generator=generator)
    return head


class LikelihoodHead(LinearHead):
    """A score head that adds `likelihood` times the answer's mean log-probability under the same model's language-model head.

    What a model thinks unlikely is often wrong, and a head on one state gathers that from many comparisons only. The model's own likelihood
    as a reward: Rafailov et al. 2024, arXiv:2404.12358; its head kept beside the score's: Yang et al. 2024, arXiv:2406.10216.
    """

    likelihood: Tensor

    def __init__(self, width: int, outputs: int = 1, likelihood: float = 1.0) -> None:
        super().__init__(width, outputs, bias=False, dtype=torch.float32)
        self.register_buffer("likelihood", torch.tensor(float(likelihood)))

    def added(self, logp: Tensor, row: Tensor, rows: int) -> Tensor:
        """[rows, 1] what the answers' log-probs [N] of rows [N] add to their scores."""
        ones = torch.ones_like(logp)
        total = logp.new_zeros(rows).index_add(0, row, logp)
        return (self.likelihood * total / logp.new_zeros(rows).index_add(0, row, ones).clamp(min=1.0)).unsqueeze(1)


def likelihood_head(width: int, outputs: int, likelihood: float) -> LikelihoodHead:
    """A fresh head that starts as the likelihood alone: its weights are zero."""
    head = LikelihoodHead(width, outputs, likelihood)
    nn.init.zeros_(head.weight)
    return head


def value_head(width: int, outputs: int = 1) -> LinearHead:
    """A fresh value head: zero weight and bias."""
    head = LinearHead(width, outputs, bias=True, dtype=torch.float32)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def width_of(model: nn.Module) -> int:
    """d: the width of the final hidden states."""
    config: Any = model.config
    return int(config.get_text_config().hidden_size)


def for_needs(loaded: Loaded, needs: Needs) -> dict[str, nn.Module]:
    """The heads that a method reads, on the model's device: those saved beside the model, else fresh ones.

    Raises ValueError where a saved head has other outputs than needed, or for a further head that no one defines.
    """
    if needs.heads:
        raise ValueError(f"no head is known by the name {needs.heads[0]!r}; known: score, value")
    if is_encoder(loaded.model):  # its task class brings the family's own head
        return {}
    saved = read_heads(loaded.path)
    own = getattr(loaded.model, "score", None)
    if isinstance(own, nn.Linear):
        saved.setdefault("score.weight", own.weight.detach())
    device = next(loaded.model.parameters()).device
    width = width_of(loaded.model)
    heads: dict[str, nn.Module] = {}
    kinds = (
        ("score", needs.score, score_head),
        ("value", needs.value, value_head),
        ("labels", needs.labels, value_head),
    )
    for name, outputs, fresh in kinds:
        if not outputs:
            continue
        state = {k.removeprefix(f"{name}."): v for k, v in saved.items() if k.startswith(f"{name}.")}
        weighed = name == "score" and ("likelihood" in state if state else needs.likelihood > 0)
        head = likelihood_head(width, outputs, needs.likelihood) if weighed else fresh(width, outputs)
        if state:
            if state["weight"].shape != head.weight.shape:
                raise ValueError(
                    f"{loaded.path}: the {name} head has {state['weight'].shape[0]} outputs, {outputs} are needed"
                )
            head.load_state_dict(state)
            loaded.notes = (*loaded.notes, f"the {name} head of {loaded.path} is used")
        heads[name] = head.to(device)
    return heads


def read_heads(path: str | Path) -> dict[str, Tensor]:
    """Tensors of ``heads.safetensors`` in a model directory; empty where there is none."""
    from safetensors.torch import load_file

    file = Path(path) / FILE
    return load_file(file) if file.exists() else {}


def export_reward_model(
    loaded: Loaded,
    head: nn.Linear | Tensor,
    directory: str | Path,
    gain: float = 1.0,
    bias: float = 0.0,
    temperature: float = 1.0,
) -> Path:
    """Write the trunk and a score head as a sequence-classification directory.

    The gain is folded into the weight; bias and temperature go to the config as ``posttrain_reward``, because that format has no
    place for them: our score is the logit + bias. Raises ValueError when pad is eos (the format reads the rightmost non-pad token)
    or when `transformers` has no such class for the family.
    """
    from transformers import AutoModelForSequenceClassification

    from posttrain.core.files import whole_directory

    tokenizer = loaded.tokenizer
    if (
        tokenizer.pad_token_id is None
        or tokenizer.pad_token_id in loaded.stops
        or tokenizer.pad_token_id == tokenizer.eos_token_id
    ):
        raise ValueError(f"{loaded.path}: a reward model needs a pad token that is not a stop token")
    if isinstance(head, LikelihoodHead):
        raise ValueError(
            "this score adds the answer's likelihood, which a sequence-classification class cannot; train with likelihood: 0"
        )
    weight = (head.weight if isinstance(head, nn.Linear) else head).detach().float().cpu() * gain
    model, trunk = _plain(loaded.model)
    config = copy.deepcopy(model.config)
    for name, value in loaded.kept.items():
        if "." not in name:
            setattr(config, name, value)
    config.num_labels = weight.shape[0]
    config.pad_token_id = tokenizer.pad_token_id
    config.posttrain_reward = {"bias": bias, "temperature": temperature, "template_hash": loaded.template.hash}
    try:
        with torch.device("meta"):
            shell = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise ValueError(f"transformers has no sequence-classification class for {loaded.family}") from error
    prefix = shell.base_model_prefix
    state = {f"{prefix}.{name}": value for name, value in trunk.items()}
    state["score.weight"] = weight.to(next(iter(trunk.values())).dtype)
    missing = {n for n in shell.state_dict() if n not in state}
    if missing:
        raise ValueError(
            f"{loaded.family}: its sequence-classification class has tensors we do not: {sorted(missing)[0]}"
        )
    with whole_directory(directory) as beside:
        shell.load_state_dict(state, assign=True, strict=False)
        shell.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
    return Path(directory)


def _plain(model: nn.Module) -> tuple[Any, dict[str, Tensor]]:
    """The model without an adapter's wrapper, and its trunk's tensors with the adapter folded in."""
    from posttrain.models.adapters import is_adapted, merged_state

    inner: Any = model.get_base_model() if is_adapted(model) else model  # type: ignore[operator]
    state = merged_state(model) if is_adapted(model) else inner.state_dict()
    prefix = inner.base_model_prefix + "."
    return inner, {k.removeprefix(prefix): v.detach() for k, v in state.items() if k.startswith(prefix)}


def load_reward(
    path: str | Path, dtype: str | torch.dtype = "auto", device: str | torch.device = "cpu", attn: str = "sdpa"
) -> tuple[Loaded, LinearHead, float]:
    """A sequence-classification directory (ours or others') as (loaded trunk, score head, bias).

    Raises ValueError when the head is not in the weights (it would score at random) or is not one linear map.
    """
    from transformers import AutoModelForSequenceClassification

    from posttrain.models import load as loading

    name = str(path)
    local = loading.check_directory(name)
    held = loading.pick_dtype(dtype, device)
    config = loading.read_config(name, local)
    kept = loading.without_dropout(config)
    tokenizer = loading.read_tokenizer(name, local)
    kind = AutoModelForSequenceClassification
    model, info, notes = loading.read_model(kind, name, local, config, held, attn, False)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(f"{name}: not a reward model ({missing[0]} is not in its weights and would be random)")
    linear = getattr(model, "score", None)
    if not isinstance(linear, nn.Linear):
        raise ValueError(f"{name}: its head is not one linear map called score; only such reward models can be read")
    loaded = loading.finish(model, tokenizer, None, name, held, kept, notes, device)
    head = LinearHead(linear.in_features, linear.out_features, bias=linear.bias is not None, dtype=torch.float32)
    head.load_state_dict({k: v.float() for k, v in linear.state_dict().items()})
    return loaded, head.to(device), float((getattr(config, "posttrain_reward", None) or {}).get("bias", 0.0))
