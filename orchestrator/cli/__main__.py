"""`python -m orchestrator.cli`: the `orch` command where the console script is not on the path."""

from orchestrator.cli import main

main()
