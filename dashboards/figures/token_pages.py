"""Tokens as text: a response under each selector (GMTS A.7), and the clouds of what is picked and left (ICT Fig. 7)."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from dashboards.figures.selectors import methods

if TYPE_CHECKING:
    from pandas import DataFrame

MAX_WORDS = 60
_STYLE = """body{font:15px system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}
.tokens{font-family:ui-monospace,monospace;white-space:pre-wrap;line-height:1.7;overflow-wrap:anywhere}
mark{background:#ffd54d;border-radius:3px;padding:1px 0}.bad mark{background:#ff9e9e}
h2{margin-top:2em}h3{font-weight:600;margin:1em 0 .2em}small{color:#666}
.cloud span{display:inline-block;margin:0 .35em;font-family:ui-monospace,monospace;white-space:pre}
.cloud{border:1px solid #ddd;border-radius:6px;padding:.6em;line-height:1.4}"""


def highlights_page(tokens: DataFrame, uids: list[int]) -> str:
    """Return an HTML page with each response once for every selector, its selected tokens marked.

    Yellow marks stand in rewarded responses, red ones in others.
    """
    parts = ["<h1>Tokens that each selector trains on</h1>"]
    for uid in uids:
        rows = tokens[tokens["uid"] == uid].sort_values("position")
        advantage = float(rows["advantage"].iloc[0])
        parts.append(
            f"<h2>response {uid} <small>advantage {advantage:+.3f}, reward {float(rows['reward'].iloc[0]):g}, "
            f"{len(rows)} tokens; hover for numbers</small></h2>"
        )
        for name in methods(tokens):
            chosen = rows[f"selected_{name}"]
            kind = "tokens" if advantage > 0 else "tokens bad"
            parts.append(f"<h3>{escape(name)} <small>{int(chosen.sum())} of {len(rows)}</small></h3>")
            parts.append(f'<div class="{kind}">{"".join(_spans(rows, name))}</div>')
    return _page("token highlights", parts)


def clouds_page(tokens: DataFrame) -> str:
    """Return an HTML page with the most frequent selected and unselected tokens of each selector, by size."""
    parts = ["<h1>Token clouds</h1><p>Size grows with the count; the number is the count.</p>"]
    for name in methods(tokens):
        chosen = tokens[f"selected_{name}"]
        parts.append(f"<h2>{escape(name)}</h2>")
        for label, is_in in (("selected", chosen), ("left", ~chosen)):
            parts.append(f"<h3>{label} <small>{int(is_in.sum())} tokens</small></h3>")
            parts.append(f'<div class="cloud">{_cloud(tokens.loc[is_in, "text"])}</div>')
    return _page("token clouds", parts)


def visible(text: str) -> str:
    """Return a token's text with white space that can be seen."""
    return text.replace("\n", "⏎").replace("\t", "⇥") if text.strip(" ") or not text else text.replace(" ", "␣")


def _spans(rows: DataFrame, name: str) -> list[str]:
    spans = []
    for row in rows.to_dict("records"):
        title = f"H {row['entropy']:.3f}, p {row['probability']:.3f}, JS {row['js']:.3f}, ω {row['omega']:+.3f}"
        tag = "mark" if row[f"selected_{name}"] else "span"
        text = escape(str(row["text"]).replace("\n", "⏎\n"))
        spans.append(f'<{tag} title="{title}">{text}</{tag}>')
    return spans


def _cloud(texts: object) -> str:
    from collections import Counter

    counts = Counter(str(text) for text in texts)  # type: ignore[attr-defined]  # a pandas Series
    most = counts.most_common(MAX_WORDS)
    if not most:
        return "none"
    largest = most[0][1]
    return " ".join(
        f'<span style="font-size:{0.8 + 1.8 * (count / largest) ** 0.5:.2f}em" title="{count}">'
        f"{escape(visible(text))}<small>&thinsp;{count}</small></span>"
        for text, count in most
    )


def _page(title: str, parts: list[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )
