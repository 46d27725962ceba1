"""What each selector picks of the same tokens: overlap, place, sign of the advantage, probability against purity, JS.

Every function draws on matplotlib axes from the token table of `trainers.lite.diagnose.Diagnosis`: one row a response
token, a bool column `selected_<method>` for each selector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame

NUM_DECILES = 10
_SIGNS = {"A > 0": "tab:green", "A < 0": "tab:red", "A = 0": "lightgrey"}


def methods(tokens: DataFrame) -> list[str]:
    """The selectors of a token table, in its order."""
    return [name.removeprefix("selected_") for name in tokens.columns if name.startswith("selected_")]


def overlap(tokens: DataFrame) -> DataFrame:
    """Return the Jaccard overlap of every pair of selectors: |both| / |either|."""
    import pandas as pd

    names = methods(tokens)
    masks = {name: _mask(tokens, name) for name in names}
    values = [[(masks[a] & masks[b]).sum() / max((masks[a] | masks[b]).sum(), 1) for b in names] for a in names]
    return pd.DataFrame(values, index=names, columns=names)


def draw_overlap(tokens: DataFrame, axes: Any, *, ratio: float) -> None:
    """Draw the Jaccard heat map; its title says what chance gives, ρ/(2 − ρ)."""
    table = overlap(tokens)
    axes.imshow(table.to_numpy(), vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(len(table)), table.columns)
    axes.set_yticks(range(len(table)), table.index)
    for i, row in enumerate(table.to_numpy()):
        for j, value in enumerate(row):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black")
    axes.set_title(f"Jaccard overlap; by chance {ratio / (2 - ratio):.2f}", fontsize="medium")


def draw_positions(tokens: DataFrame, axes: Any) -> None:
    """Draw the share of each selector's tokens by tenth of the response; flat is what all tokens do."""
    tenth = (tokens["position"] * NUM_DECILES // tokens["length"]).to_numpy()
    everything = np.bincount(tenth, minlength=NUM_DECILES) / len(tokens)
    axes.step(range(NUM_DECILES), everything, where="mid", color="black", linewidth=2, label="all tokens")
    for name in methods(tokens):
        chosen = tenth[_mask(tokens, name)]
        axes.plot(
            range(NUM_DECILES), np.bincount(chosen, minlength=NUM_DECILES) / max(len(chosen), 1), "o-", label=name
        )
    axes.set_xlabel("tenth of the response")
    axes.set_ylabel("share of the selected tokens")
    axes.set_xticks(range(NUM_DECILES), [str(place + 1) for place in range(NUM_DECILES)])
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")


def sign_shares(tokens: DataFrame) -> DataFrame:
    """Return the share of tokens by the sign of their response's advantage, for all tokens and each selector."""
    import pandas as pd

    advantage = tokens["advantage"].to_numpy()
    signs = {"A > 0": advantage > 0, "A < 0": advantage < 0, "A = 0": advantage == 0}
    sets = {"all": np.full(len(tokens), True)} | {name: _mask(tokens, name) for name in methods(tokens)}
    shares = {sign: [float(is_sign[kept].mean()) for kept in sets.values()] for sign, is_sign in signs.items()}
    return pd.DataFrame(shares, index=list(sets))


def draw_signs(tokens: DataFrame, axes: Any) -> None:
    """Draw the shares by sign of the advantage as stacked bars."""
    shares = sign_shares(tokens)
    left = np.zeros(len(shares))
    for sign, colour in _SIGNS.items():
        axes.barh(shares.index, shares[sign], left=left, color=colour, label=sign)
        left += shares[sign].to_numpy()
    axes.invert_yaxis()
    axes.set_xlabel("share of the tokens")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.15), ncols=3, fontsize="small", frameon=False)


def high_to_low(tokens: DataFrame) -> dict[str, float]:
    """Return ICT's H/L ratio, tokens with p_y > C over those with p_y < C, of all tokens and of each selector.

    The ratio of all tokens is the base rate: a selector near 1 says nothing by itself. Infinite where none is low.

    Source: ICT, section 4.3.2.
    """
    high, low = tokens["probability"] > tokens["purity"], tokens["probability"] < tokens["purity"]
    sets = {"all": high | ~high} | {name: tokens[f"selected_{name}"] for name in methods(tokens)}
    counts = {name: (int((high & chosen).sum()), int((low & chosen).sum())) for name, chosen in sets.items()}
    return {name: above / below if below else float("inf") for name, (above, below) in counts.items()}


def draw_high_to_low(tokens: DataFrame, axes: Any) -> None:
    """Draw the H/L ratios on a log scale beside the base rate."""
    ratios = {name: ratio for name, ratio in high_to_low(tokens).items() if 0 < ratio < float("inf")}
    colours = ["black" if name == "all" else "tab:blue" for name in ratios]
    bars = axes.barh(list(ratios), list(ratios.values()), color=colours)
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios.values()], padding=3)
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set_xlabel("tokens with p > C over tokens with p < C (ICT's H/L); black: base rate")


def draw_elbow(tokens: DataFrame, axes: Any, *, ratio: float) -> None:
    """Draw the sorted JS of all tokens and where the top ρ begins. Source: ICT Figure 3."""
    js = np.sort(tokens["js"].to_numpy())
    place = np.arange(1, len(js) + 1) / len(js)
    axes.plot(place, js)
    axes.axvline(1 - ratio, color="tab:red", linestyle="--", label=f"top {ratio:.0%}")
    axes.set_xlabel("share of the tokens, by JS")
    axes.set_ylabel("JS(p ‖ group mean), nats")
    axes.legend(fontsize="small")


def _mask(tokens: DataFrame, name: str) -> Any:
    return tokens[f"selected_{name}"].to_numpy()
