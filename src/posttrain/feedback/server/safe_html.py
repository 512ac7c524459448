"""Answers as HTML that cannot do anything: Markdown without raw HTML, links as text, no images, then an allow-list.

Three walls, each enough alone: the parser knows no HTML, `nh3` keeps a dozen harmless tags without attributes, and the page's content
security policy runs no script but ours. Texts over 20,000 characters stay plain and are folded: parsing them would cost more than it
shows.
"""

from __future__ import annotations

from functools import lru_cache
from html import escape

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markupsafe import Markup

from posttrain.feedback.visible import visible

LONG = 20_000
SHOWN = 4_000
"""Characters of a long text that stand outside the fold."""
FOLD = 2_500
"""Characters above which a text is folded by style, with a button."""
TAGS = {
    "p", "br", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "hr",
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip

_parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True}, renderer_cls=RendererHTML)
_parser.enable(["table", "strikethrough"]).disable(
    ["link", "image", "autolink", "html_inline", "html_block", "entity", "reference"]
)


@lru_cache(maxsize=2048)
def markdown(text: str) -> Markup:
    """The rendered text; a long one as plain text with its rest folded, its length said."""
    shown = visible(text)
    if len(shown) > LONG:
        rest = len(shown) - SHOWN
        return Markup(
            f'<pre class="plain">{escape(shown[:SHOWN])}</pre><details><summary>+ {rest:,}</summary>'
            f'<pre class="plain">{escape(shown[SHOWN:])}</pre></details>'
        )
    return Markup(nh3.clean(_parser.render(shown), tags=TAGS, attributes={}, link_rel=None))


def plain(text: str) -> Markup:
    """The raw text, steering characters marked."""
    return Markup(escape(visible(text)))


def right_to_left(text: str) -> bool:
    """Does the text begin in a right-to-left script?"""
    first = next((c for c in text if c.isalpha()), "")
    return "\u0590" <= first <= "\u08ff"
