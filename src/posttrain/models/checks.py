"""All checks of tokens, masks and templates on a sample of groups: T1-T6 and M1-M9 of the pitfalls list.

`sample_findings` runs what a sample of rows allows; `directory_findings` writes tokenizer and generation config as `save` will, reads
them back, and looks with them (T3, T5, M7, M9).
Left out: data and lengths (D), which belong to the readers.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

from posttrain.core.finding import Finding
from posttrain.core.group import Group, Response
from posttrain.models.load import Loaded, settle_generation, stop_ids
from posttrain.models.mask_checks import (
    append_only,
    default_system,
    mask_decodes_to_answer,
    mask_extremes,
    mask_includes_stop,
    others_untrained,
    prefix_preserving,
    rm_same_ids,
    serve_prefix_equal,
)
from posttrain.models.render import Renderer
from posttrain.models.template import chosen, turn_ends
from posttrain.models.token_checks import (
    bos_once,
    content_is_data,
    found_on,
    ids_have_rows,
    pad_is_not_stop,
    stop_round_trip,
    stop_trained,
)

CHECKS = {
    "T1": stop_trained,
    "T2": pad_is_not_stop,
    "T3": stop_round_trip,
    "T4": bos_once,
    "T5": ids_have_rows,
    "T6": content_is_data,
    "M1": mask_extremes,
    "M2": mask_includes_stop,
    "M3": mask_decodes_to_answer,
    "M4": prefix_preserving,
    "M5": others_untrained,
    "M6": append_only,
    "M7": serve_prefix_equal,
    "M8": default_system,
    "M9": rm_same_ids,
}
"""The check of each id."""


def rendering(renderer: Renderer, groups: Iterable[Group]) -> tuple[list[Group], list[Finding]]:
    """Render a sample; what the renderer refuses becomes M4 (earlier turns rewritten) or M1 (template cannot show it)."""
    done, rewritten, refused = [], [], []
    why = ""
    for group in groups:
        try:
            made = renderer.render(group)
        except ValueError as error:
            if "rewrites earlier turns" in str(error):
                rewritten.append(group.id)
            elif "tokens, the limit is" in str(error) or "leaves no room" in str(error):
                continue  # lengths are counted by the data checks
            else:
                why = why or str(error)
                refused.append(group.id)
            continue
        if made is not None:
            done.append(made)
    name = renderer.template.name
    found = found_on("M4", "error", rewritten, f"Template {name!r} rewrites earlier turns.", "Train with mask: last.")
    found += found_on(
        "M1", "error", refused, f"Template {name!r} cannot mark an answer: {why}.", "Name another template."
    )
    return done, found


def sample_findings(
    renderer: Renderer, groups: Sequence[Group], rows: int | None = None, reward_model: bool = False
) -> list[Finding]:
    """All checks that a sample of unrendered groups allows (not T3, M7, M9, which need a saved directory or a second reader)."""
    probe = Renderer(
        renderer.tokenizer, renderer.template, renderer.mask, renderer.max_tokens, "truncate", renderer.stops
    )
    done, found = rendering(probe, groups)
    probe = Renderer(renderer.tokenizer, renderer.template, renderer.mask, None, "stop", renderer.stops)
    found += stop_trained(probe, done) + pad_is_not_stop(probe, done, reward_model) + bos_once(probe, done)
    if rows is not None:
        found += ids_have_rows(probe, done, rows)
    found += content_is_data(probe, done) + mask_extremes(done) + mask_includes_stop(probe, done)
    found += mask_decodes_to_answer(probe, done) + prefix_preserving(probe, done) + others_untrained(probe, done)
    return found + append_only(probe, done) + default_system(probe, done)


def directory_findings(loaded: Loaded, renderer: Renderer, groups: Sequence[Group]) -> list[Finding]:
    """What a model saved now would do elsewhere: its stop set, its prompts, its reward inputs; and rows of new tokens.

    groups: rendered. Weights are not written. The generation config in memory is left as it is.
    """
    from transformers import AutoTokenizer, GenerationConfig

    inner: Any = loaded.model
    rows = inner.get_input_embeddings().weight.shape[0]
    moving = any(
        p.requires_grad for n, p in inner.named_parameters() if "embed" in n or "wte" in n or "token_adapter" in n
    )
    found = ids_have_rows(renderer, groups, rows, loaded.added, frozen_embedding=not moving)
    generation = copy.deepcopy(getattr(inner, "generation_config", None)) or GenerationConfig()
    settle_generation(generation, loaded.tokenizer, list(stop_ids(loaded)))
    with tempfile.TemporaryDirectory() as place:
        loaded.tokenizer.save_pretrained(place)
        generation.save_pretrained(place)
        tokenizer, told = AutoTokenizer.from_pretrained(place), GenerationConfig.from_pretrained(place)
    template = chosen(None, tokenizer.chat_template, tokenizer.get_vocab())
    served = Renderer(tokenizer, template, renderer.mask, stops=renderer.stops)
    found += stop_round_trip(renderer.stops, tokenizer, told, turn_ends(tokenizer, template), rows)
    found += serve_prefix_equal(renderer, groups, lambda g: served.prompt(g.prompt, g.tools), template.hash)

    def scored(group: Group, response: Response) -> list[int]:
        if response.stop is not None:  # sampled or cut: its ids are what they are
            return [*map(int, group.prompt_tokens), *map(int, response.tokens)]  # type: ignore[arg-type]
        bare = Group(prompt=group.prompt, responses=(Response(turns=response.turns),), tools=group.tools)
        done = served.render(bare)
        assert done is not None
        return [*map(int, done.prompt_tokens), *map(int, done.responses[0].tokens)]  # type: ignore[arg-type]

    return found + rm_same_ids(renderer, [g for g in groups[:3] if g.prompt], scored)
