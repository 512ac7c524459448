"""Chat templates: a name, a jinja source, a hash; and the named ones for base models that bring none.

The sandbox is the one `transformers` 5.23 renders with (the compiled template of its `chat_template_utils`, called directly because
its public function copies every message again): templates are untrusted text, and see plain JSON values only. A template that wraps
the assistant's words in ``{% generation %}`` tells where they are; all built-in ones do. Left out: images and audio.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from posttrain.core.chat import Message

_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
_BOS = "{%- if bos_token and bos_token != eos_token -%}{{ bos_token }}{%- endif -%}"

_TAGGED = """
{%- if tools %}
{{- OPEN('system') + 'You may call these tools by a JSON object with name and arguments.' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- CLOSE + '\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- OPEN('assistant') }}
{%- generation %}
{%- if message.reasoning_content %}{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n' }}{%- endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}{{- '\\n' + (call.function | tojson) }}{%- endfor %}
{{- CLOSE }}
{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- OPEN(message.role) + message.content + CLOSE + '\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- OPEN('assistant') }}{%- endif %}
"""


def _tagged(opening: str, closing: str) -> str:
    """The built-in template shape with its turn markers; `opening` is a jinja expression over `role`."""
    head = "{%- macro OPEN(role) -%}{{- " + opening + " -}}{%- endmacro -%}{%- set CLOSE = '" + closing + "' -%}"
    return head + _BOS + _TAGGED.strip().replace("\n", "")


PLAIN = _BOS + (
    "{%- set names = {'system': 'System', 'user': 'User', 'assistant': 'Assistant', 'tool': 'Tool'} -%}"
    "{%- if tools %}{{- 'Tools: ' + (tools | tojson) + '\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- names[message.role] + ':' }}"
    "{%- if message.role == 'assistant' %}"
    "{%- generation %}"
    "{%- if message.reasoning_content %}{{- ' <think>' + message.reasoning_content + '</think>' }}{%- endif %}"
    "{{- ' ' + message.content }}"
    "{%- for call in message.tool_calls or [] %}{{- '\\n' + (call.function | tojson) }}{%- endfor %}"
    "{{- eos_token }}"
    "{%- endgeneration %}"
    "{{- '\\n' }}"
    "{%- else %}{{- ' ' + message.content + '\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}"
)

BUILT_IN: dict[str, str] = {
    "posttrain-chat": _tagged("'<|' + role + '|>'", "<|end|>"),
    "chatml": _tagged("'<|im_start|>' + role + '\\n'", "<|im_end|>"),
    "plain": PLAIN,
}
"""Source by name. `plain` needs no special token but eos; the others need their markers in the vocabulary."""

MARKERS: dict[str, tuple[str, ...]] = {
    "posttrain-chat": ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "plain": (),
}
"""Tokens that each built-in template writes."""


@dataclass(frozen=True)
class Template:
    """A chat template. name: built-in name, or ``own`` for the tokenizer's. source: jinja."""

    name: str
    source: str

    @cached_property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the source: what a checkpoint remembers and serving compares."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]

    @cached_property
    def marks(self) -> bool:
        """Does the template mark the assistant's span with ``{% generation %}``?"""
        return bool(_MARKED.search(self.source))

    def render(
        self,
        chats: Sequence[Sequence[Mapping[str, Any]]],
        special: Mapping[str, Any],
        tools: Sequence[Mapping[str, Any]] = (),
        prompt: bool = False,
    ) -> list[tuple[str, tuple[tuple[int, int], ...]]]:
        """Text and marked spans (characters) of each chat; `prompt` adds the opening of an assistant turn.

        special: the tokenizer's special tokens by name. Raises ValueError with the template's own complaint.
        """
        from transformers.utils.chat_template_utils import _compile_jinja_template, _render_with_assistant_indices

        given = {"tools": [dict(tool) for tool in tools] or None, "documents": None, "add_generation_prompt": prompt}
        out = []
        try:
            compiled = _compile_jinja_template(self.source)
            for chat in chats:
                if self.marks:
                    text, spans = _render_with_assistant_indices(compiled, messages=chat, **given, **special)
                    out.append((text, tuple(map(tuple, spans))))
                else:
                    out.append((compiled.render(messages=chat, **given, **special), ()))
        except Exception as error:  # a template may raise anything: the user gets its words in one line
            words = str(error).splitlines() or [type(error).__name__]
            raise ValueError(f"chat template {self.name!r} refuses this chat: {words[0]}") from error
        return out


def as_row(message: Message) -> dict[str, Any]:
    """A message as templates read it (the OpenAI shape of tool calls, `reasoning_content` for the thinking)."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        row["name"] = message.name
    if message.thinking is not None:
        row["reasoning_content"] = message.thinking
    if message.tool_calls:
        row["tool_calls"] = [{"type": "function", "function": dict(call)} for call in message.tool_calls]
    return row


def named(name: str) -> Template:
    """The built-in template of that name. Raises ValueError listing the names."""
    if name not in BUILT_IN:
        raise ValueError(
            f"no built-in chat template {name!r}; accepted: {', '.join(BUILT_IN)}, a .jinja file, or source"
        )
    return Template(name, BUILT_IN[name])


def from_source(source: str) -> Template:
    """A template from its text; a built-in one keeps its name."""
    return Template(next((n for n, s in BUILT_IN.items() if s == source), "own"), source)


def chosen(template: str | Template | None, own: str | Mapping[str, str] | None, vocabulary: Iterable[str]) -> Template:
    """The template to use: the caller's, else the tokenizer's own, else the built-in one whose markers the vocabulary has.

    template: a `Template`, a built-in name, a path to a .jinja file, or jinja source.
    """
    if isinstance(template, Template):
        return template
    if template is not None:
        if "{{" in template or "{%" in template:
            return from_source(template)
        if Path(template).is_file():
            return from_source(Path(template).read_text(encoding="utf-8"))
        return named(template)
    if own:
        if isinstance(own, str):
            return from_source(own)
        if "default" in own:
            return from_source(own["default"])
        raise ValueError(
            f"the tokenizer has chat templates {sorted(own)} and no default one; name a file with template="
        )
    words = set(vocabulary)
    fitting = (name for name, markers in MARKERS.items() if markers and words.issuperset(markers))
    return named(next(fitting, "plain"))


_PROBE = "Q7xanswer"


def turn_ends(tokenizer: Any, template: Template) -> set[int]:
    """Ids of the added tokens that the template writes right after an assistant's text."""
    added = {token.content: i for i, token in tokenizer.added_tokens_decoder.items() if not token.content.isspace()}
    if not added:
        return set()
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": _PROBE}]
    try:
        text = template.render([chat], tokenizer.special_tokens_map)[0][0]
    except ValueError:
        return set()
    longest_first = sorted(added, key=len, reverse=True)
    match = re.search(re.escape(_PROBE) + r"\s*(" + "|".join(map(re.escape, longest_first)) + ")", text)
    return {added[match.group(1)]} if match else set()
