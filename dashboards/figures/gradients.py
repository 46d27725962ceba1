"""Does entropy stand for the gradient? Scatters of GMTS Figures 2 and 6, and ICT's predicted against actual ΔH2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame

SHARE = 0.2
"""The GMTS figures mark where the top fifth begins."""


def correlation(first: Any, second: Any) -> float:
    """Return Pearson's r; NaN where one side does not vary."""
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(one) < 2 or one.std() == 0 or other.std() == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def draw_entropy_against(tokens: DataFrame, values: Any, axes: Any, *, label: str) -> None:
    """Scatter a positive quantity over entropy on log axes, one colour a response; r is of the logarithms.

    Tokens where either is 0 are left out and counted in the title.
    """
    entropy, value = tokens["entropy"].to_numpy(), np.asarray(values)
    is_drawn = (entropy > 0) & (value > 0)
    if not is_drawn.any():
        _say_nothing(axes, label)
        return
    for uid, colour in zip(tokens["uid"].unique(), ("tab:blue", "tab:orange"), strict=False):
        mine = is_drawn & (tokens["uid"] == uid).to_numpy()
        advantage = tokens.loc[tokens["uid"] == uid, "advantage"].iloc[0]
        axes.scatter(entropy[mine], value[mine], s=8, alpha=0.7, color=colour, label=f"A = {advantage:+.2f}")
    axes.set_yscale("log")
    _log_ticks(axes)
    axes.set_xlabel("entropy H, nats")
    axes.set_ylabel(label)
    r = correlation(np.log(entropy[is_drawn]), np.log(value[is_drawn]))
    left_out = f"; {int((~is_drawn).sum())} zeros left out" if not is_drawn.all() else ""
    axes.set_title(f"r = {r:.2f}, n = {int(is_drawn.sum())}{left_out}", fontsize="medium")
    axes.legend(fontsize="small")


def draw_distribution(tokens: DataFrame, values: Any, axes: Any, *, label: str) -> None:
    """Draw each response's distribution of a positive quantity and where its top fifth begins."""
    value = np.asarray(values)
    shown = value[value > 0]
    if not len(shown):
        _say_nothing(axes, label)
        return
    bins = np.geomspace(shown.min(), shown.max(), 30) if shown.min() < shown.max() else 10
    for uid, colour in zip(tokens["uid"].unique(), ("tab:blue", "tab:orange"), strict=False):
        mine = value[(tokens["uid"] == uid).to_numpy() & (value > 0)]
        if len(mine):
            advantage = tokens.loc[tokens["uid"] == uid, "advantage"].iloc[0]
            axes.hist(mine, bins=bins, alpha=0.5, color=colour, label=f"A = {advantage:+.2f}")
            axes.axvline(np.quantile(mine, 1 - SHARE), color=colour, linestyle="--")
    _log_ticks(axes)
    axes.set_xlabel(f"{label}; dashed: top {SHARE:.0%}")
    axes.set_ylabel("tokens")
    axes.legend(fontsize="small")


def draw_entropy_changes(changes: DataFrame, axes: Any) -> None:
    """Scatter the actual over the predicted ΔH2 of one update, with the identity. Source: ICT A.3.5."""
    predicted, actual = changes["predicted"].to_numpy(), changes["actual"].to_numpy()
    axes.scatter(predicted, actual, s=8, alpha=0.6)
    reach = float(max(np.abs(predicted).max(initial=0.0), np.abs(actual).max(initial=0.0))) or 1.0
    axes.plot([-reach, reach], [-reach, reach], color="grey", linewidth=1)
    axes.set_xlabel("predicted ΔH2 = −2·δz·p(p − C)/C")
    axes.set_ylabel("actual ΔH2, nats")
    agree = float(np.mean(np.sign(predicted) == np.sign(actual))) if len(actual) else float("nan")
    error = float(np.mean(np.abs(predicted - actual))) if len(actual) else float("nan")
    axes.set_title(
        f"r = {correlation(predicted, actual):.2f}, same sign {agree:.0%}, mean error {error:.1e}, n = {len(actual)}",
        fontsize="medium",
    )


def _say_nothing(axes: Any, label: str) -> None:
    axes.text(0.5, 0.5, f"{label} is 0 at every token", ha="center", transform=axes.transAxes)


def _log_ticks(axes: Any) -> None:
    """Label 1, 2 and 5 of each decade: entropies often span less than one."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
