"""`orch paper` prints published numbers and findings, for people and for scripts."""

import json

import pytest
from typer.testing import CliRunner

from dashboards.papers.published import PaperError
from orchestrator.cli.paper import paper


def run(*arguments: str) -> str:
    result = CliRunner().invoke(paper, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_names_every_table_of_the_papers() -> None:
    output = run("list")
    for name in ("gmts_table1", "gmts_table5", "ict_table3", "ets_results", "gmts_figure5"):
        assert name in output
    assert len(json.loads(run("list", "--json"))) >= 15


def test_show_prints_every_number_with_doubts_and_claims() -> None:
    output = run("show", "gmts_table4")
    assert "24.58" in output
    assert "Doubt:" in output
    assert "dapo_90 (Section 4.4)" in output
    assert len([line for line in output.splitlines() if "Top (" in line and "%)" in line and "Claim" not in line]) >= 16


def test_show_as_json_holds_the_printed_text_of_a_number() -> None:
    payload = json.loads(run("show", "gmts_table4", "--json"))
    assert {"text": "24.58", "emphasis": "none"} in [cell for row in payload["rows"] for cell in row["cells"]]


def test_audit_prints_what_it_found_with_the_place() -> None:
    output = run("audit")
    assert "GMTS Table 5" in output
    assert "fit 59 questions" in output.replace("\n", " ")


def test_audit_of_one_table_as_json_holds_only_its_findings() -> None:
    findings = json.loads(run("audit", "--table", "gmts_table4", "--json"))
    assert {finding["table"] for finding in findings} == {"gmts_table4"}
    assert {"outlier", "driven", "denominator", "omitted"} <= {finding["check"] for finding in findings}


def test_an_unknown_table_is_refused_with_those_there_are() -> None:
    with pytest.raises(PaperError) as caught:
        run("show", "gmts_table9")
    assert "gmts_table4" in caught.value.fix
