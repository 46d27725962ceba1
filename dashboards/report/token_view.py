"""Tokens of a diagnosis as a page shows them: each response once, with the selectors that picked each token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NUM_RESPONSES = 2
"""Of each sign of the advantage."""
CAPTIONS = {
    "overlap": "Jaccard overlap of every pair of selectors",
    "positions": "Where in the response each selector picks, beside all tokens",
    "advantage_signs": "Selected tokens by the sign of their response's advantage",
    "high_to_low": "Tokens with p > C over tokens with p < C (ICT's H/L); black: all tokens",
    "js_elbow": "Sorted JS of all tokens and where the top ρ begins (ICT Figure 3)",
    "entropy_change": "Predicted against actual change of H2 after one update (ICT A.3.5)",
    "entropy_and_gradient": "Entropy against the true gradient norm of each token (GMTS Figure 2)",
    "entropy_and_score": "Entropy against the GMTS score (GMTS Figure 6)",
}
"""Figures of `orch diagnose`: file stem → what it shows."""
_NUMBERS = "H {entropy:.3f}, p {probability:.3f}, JS {js:.3f}, ω {omega:+.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One response token."""

    text: str
    methods: tuple[str, ...]
    """The selectors that train on it."""
    numbers: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One sampled response."""

    advantage: float
    reward: float
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """Some responses of one diagnosis."""

    methods: tuple[str, ...]
    counts: tuple[int, ...]
    """Tokens of the shown responses that each method selects."""
    num_tokens: int
    responses: tuple[Response, ...]


def read_token_view(folder: Path) -> TokenView | None:
    """The tokens that `orch diagnose` kept in a folder; None where there are none."""
    file = folder / "tokens.parquet"
    if not file.is_file():
        return None
    import pandas as pd

    from dashboards.figures.selectors import methods

    tokens = pd.read_parquet(file)
    names = tuple(methods(tokens))
    is_good = tokens["advantage"] > 0
    uids = [*tokens.loc[is_good, "uid"].unique()[:NUM_RESPONSES]]
    uids += [*tokens.loc[tokens["advantage"] < 0, "uid"].unique()[:NUM_RESPONSES]]
    shown = tokens[tokens["uid"].isin(uids)]
    return TokenView(
        methods=names,
        counts=tuple(int(shown[f"selected_{name}"].sum()) for name in names),
        num_tokens=len(shown),
        responses=tuple(_response(shown[shown["uid"] == uid].sort_values("position"), names) for uid in uids),
    )


def _response(rows: object, names: tuple[str, ...]) -> Response:
    import pandas as pd

    assert isinstance(rows, pd.DataFrame)
    return Response(
        advantage=float(rows["advantage"].iloc[0]),
        reward=float(rows["reward"].iloc[0]),
        tokens=tuple(
            Token(
                text=str(row["text"]),
                methods=tuple(name for name in names if row[f"selected_{name}"]),
                numbers=_NUMBERS.format_map(row),
            )
            for row in rows.to_dict("records")
        ),
    )
