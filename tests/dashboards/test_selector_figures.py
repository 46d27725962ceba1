import pandas as pd
import pytest

from dashboards.figures.diagnosis import write_figures
from dashboards.figures.gradients import correlation
from dashboards.figures.selectors import high_to_low, overlap, sign_shares
from dashboards.figures.token_pages import clouds_page, highlights_page, visible
from trainers.lite.diagnose import Diagnosis

TOKENS = {
    "uid": [1, 1, 1, 2],
    "group": [0, 0, 0, 0],
    "position": [0, 1, 2, 0],
    "length": [3, 3, 3, 1],
    "token": [5, 6, 7, 5],
    "text": ["<b>", " ", "x\n", "<b>"],
    "advantage": [0.7, 0.7, 0.7, -0.7],
    "reward": [1.0, 1.0, 1.0, 0.0],
    "entropy": [0.5, 0.1, 0.9, 0.3],
    "purity": [0.5, 0.9, 0.4, 0.6],
    "probability": [0.6, 0.95, 0.1, 0.7],
    "js": [0.0, 0.1, 0.3, 0.2],
    "omega": [0.7, 0.7, 0.7, -0.7],
    "logit_gradient": [0.5, 0.1, 1.0, 0.4],
    "selected_ets": [True, False, True, False],
    "selected_ict": [False, False, True, True],
}


def test_the_overlap_of_selectors_is_their_jaccard_index():
    table = overlap(pd.DataFrame(TOKENS))
    assert table.loc["ets", "ets"] == 1.0
    assert table.loc["ets", "ict"] == pytest.approx(1 / 3)
    assert table.loc["ict", "ets"] == table.loc["ets", "ict"]


def test_shares_by_sign_are_of_each_selectors_own_tokens():
    shares = sign_shares(pd.DataFrame(TOKENS))
    assert shares.loc["all"].tolist() == [0.75, 0.25, 0.0]
    assert shares.loc["ets"].tolist() == [1.0, 0.0, 0.0]
    assert shares.loc["ict"].tolist() == [0.5, 0.5, 0.0]


def test_the_high_to_low_ratio_stands_beside_its_base_rate():
    assert high_to_low(pd.DataFrame(TOKENS)) == {"all": 3.0, "ets": 1.0, "ict": 1.0}
    always_high = pd.DataFrame(TOKENS | {"probability": [0.99] * 4})
    assert high_to_low(always_high)["all"] == float("inf")


def test_a_correlation_with_a_constant_is_not_a_number():
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert correlation([1, 2, 3], [5, 5, 5]) != correlation([1, 2, 3], [5, 5, 5])


def test_pages_mark_what_is_selected_and_escape_what_is_said():
    page = highlights_page(pd.DataFrame(TOKENS), [1])
    assert page.count("<mark") == 3
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    cloud = clouds_page(pd.DataFrame(TOKENS))
    assert 'title="1"' in cloud
    assert "␣" in cloud
    assert visible("x\n") == "x⏎"


def test_a_diagnosis_writes_every_figure_and_its_tables(tmp_path):
    gradients = {name: TOKENS[name] for name in ("uid", "position", "advantage", "entropy", "omega")}
    diagnosis = Diagnosis(
        tokens=TOKENS,
        gradients=gradients | {"logp_gradient": [1.0, 0.2, 3.0, 0.0]},
        changes={"predicted": [0.1, -0.2], "actual": [0.2, -0.1]},
        ratio=0.5,
        scope="batch",
        method="ets",
    )
    files = write_figures(diagnosis, tmp_path / "figures", title="abc")
    assert all(file.stat().st_size > 1000 for file in files)
    assert {file.suffix for file in files} == {".png", ".html"}
    kept = pd.read_parquet(tmp_path / "figures" / "tokens.parquet")
    assert kept["selected_ict"].tolist() == TOKENS["selected_ict"]


def test_a_diagnosis_without_trained_tokens_still_draws(tmp_path):
    empty = {"predicted": [], "actual": []}
    gradients = {name: TOKENS[name] for name in ("uid", "position", "advantage", "entropy", "omega")}
    diagnosis = Diagnosis(
        tokens=TOKENS, gradients=gradients | {"logp_gradient": [0.0] * 4}, changes=empty,
        ratio=0.5, scope="batch", method="ets",
    )  # fmt: skip
    assert len(write_figures(diagnosis, tmp_path, title="abc")) == 10
