"""The `orch` command: one file a command, registered here in the order in which a user meets them.

The composition root: only these files print, exit and read the environment. Their top-level imports are light;
whatever is heavy is imported inside the function that needs it, so `orch --help` loads none of it.
"""

from __future__ import annotations

import sys

import typer

from orchestrator.cli.compare import compare
from orchestrator.cli.cost import cost
from orchestrator.cli.ctl import ctl
from orchestrator.cli.data import data
from orchestrator.cli.diagnose import diagnose
from orchestrator.cli.doctor import doctor
from orchestrator.cli.eval import evaluate
from orchestrator.cli.experiments import experiments, init
from orchestrator.cli.export import export, import_
from orchestrator.cli.gc import gc
from orchestrator.cli.grade import grade
from orchestrator.cli.logs import logs
from orchestrator.cli.paper import paper
from orchestrator.cli.plan import plan
from orchestrator.cli.regrade import regrade
from orchestrator.cli.report import report
from orchestrator.cli.status import status
from orchestrator.cli.sweep import sweep
from orchestrator.cli.sync import sync
from orchestrator.cli.table import table
from orchestrator.cli.ui import ui
from orchestrator.cli.verify import verify
from orchestrator.cli.watch import watch
from orchestrator.cli.why import why
from orchestrator.errors import OrchError

app = typer.Typer(
    help="Run, trust and publish token-selection experiments in RLVR.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(experiments)
app.command()(init)
app.command()(plan)
app.command()(sweep)
app.command()(status)
app.command()(watch)
app.command()(logs)
app.command()(table)
app.command()(cost)
app.command()(why)
app.command()(report)
app.command()(sync)
app.command()(ui)
app.command("eval")(evaluate)
app.command()(compare)
app.command()(diagnose)
app.command()(grade)
app.command()(regrade)
app.command()(doctor)
app.command()(verify)
app.command()(export)
app.command("import")(import_)
app.command()(gc)
app.add_typer(ctl, name="ctl")
app.add_typer(data, name="data")
app.add_typer(paper, name="paper")


def main() -> None:
    """Run the command line; what a user can fix becomes one message on stderr and the error's exit code."""
    try:
        app()
    except OrchError as error:
        typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
