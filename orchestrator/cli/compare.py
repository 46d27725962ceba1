"""`orch compare A B`: is A better than B? Paired by question, with errors, tests, and what could have been seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.graders.api import GraderName
from orchestrator.cli.options import RUNS, AsJson, CacheFolder, StoreFolder

if TYPE_CHECKING:
    from eval.comparison import Difference
    from orchestrator.evaluations.sides import Side


def compare(
    first: Annotated[
        str,
        typer.Argument(
            help="Trial, trials (a,b,c: seeds), EXPERIMENT:ARM, TRIAL@STEP, or a model by path, id or name."
        ),
    ],
    second: Annotated[str, typer.Argument(help="What it is compared with.")],
    bench: Annotated[str, typer.Option(help="Benchmarks, separated by commas; all they share without it.")] = "",
    grader: Annotated[
        GraderName, typer.Option(help="Whose verdicts are compared: ours, or those of `orch regrade --grader …`.")
    ] = "ours",
    store: StoreFolder = RUNS,
    cache_dir: CacheFolder = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the differences (png, pdf or svg).")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two models, trials, arms or checkpoints on the benchmarks both were evaluated on."""
    from dashboards.seed_looks import sentences_between
    from eval.comparison import compare_arms, compare_on_all, holm
    from orchestrator.evaluations.sides import read_side, shared_benchmarks
    from orchestrator.store.store import Store

    runs, cache = Store(store), cache_dir or store / "models"
    sides = (
        read_side(first, runs, cache_folder=cache, grader=grader),
        read_side(second, runs, cache_folder=cache, grader=grader),
    )
    names = shared_benchmarks(*sides, wanted=_names(bench))
    found = {name: compare_arms(*(side.arm(name) for side in sides)) for name in names}
    adjusted = holm([difference.p_method for difference in found.values()])
    arms = ([side.arm(name) for name in names] for side in sides)
    macro = compare_on_all(*arms) if len(found) > 1 else None
    looks = sentences_between(sides[0].trials, sides[1].trials, runs)
    if as_json:
        _print_json(sides, found, adjusted, macro, looks)
    else:
        _print_table(sides, found, adjusted, macro, looks)
    if plot is not None:
        from dashboards.figures.differences import plot_differences

        plot_differences(found, macro, plot, labels=(first, second))
        typer.echo(plot, err=as_json)


def _names(bench: str) -> tuple[str, ...]:
    """Benchmarks as scores call them: one of a file by the file's name."""
    from eval.benchmarks.registry import short_name

    return tuple(short_name(name) for name in bench.split(",") if name)


def _print_json(
    sides: tuple[Side, Side],
    found: dict[str, Difference],
    adjusted: list[float | None],
    macro: Difference | None,
    looks: Sequence[str],
) -> None:
    from orchestrator.cli.terminal import print_json
    from orchestrator.codec import encode

    rows = {
        name: encode(difference) | {"p_holm": p, "avg": [_mean(side, name) for side in sides]}
        for (name, difference), p in zip(found.items(), adjusted, strict=True)
    }
    sides_named = {"first": sides[0].label, "second": sides[1].label}
    found_out = {"benchmarks": rows, "macro": macro, "graders": _graders(sides, found), "looks": list(looks)}
    print_json(sides_named | found_out)


_METHODS = ("p", "p Holm", "detectable", "seeds to decide")
_CHECKPOINTS = ("these checkpoints differ: p", "p flips", "detectable")
"""With one seed of a trained side there is no p about a method."""
_TOO_BOLD = (
    "Looks at the data decided the number of seeds: what they say stands. The p values above are as if that number had "
    "been fixed before, and too bold."
)


def _print_table(
    sides: tuple[Side, Side],
    found: dict[str, Difference],
    adjusted: list[float | None],
    macro: Difference | None,
    looks: Sequence[str],
) -> None:
    from orchestrator.cli.terminal import print_rows

    about_methods = all(difference.covers_seeds for difference in found.values())
    numbers = partial(_tests, about_methods=about_methods)
    headers = ("benchmark", "n×K", "seeds", "A", "B", "Δ ± SE", *(_METHODS if about_methods else _CHECKPOINTS))
    rows = []
    for (name, difference), p in zip(found.items(), adjusted, strict=True):
        averages = [f"{100 * _mean(side, name):.1f}" for side in sides]
        rows.append((name, *_sizes(difference), *averages, *numbers(difference, p)))
    if macro is not None:
        averages = [f"{100 * sum(_mean(side, name) for name in found) / len(found):.1f}" for side in sides]
        rows.append(("macro", *_sizes(macro), *averages, *numbers(macro, None)))
    print_rows(headers, rows, above=[f"A = {sides[0].label}, B = {sides[1].label} (percent)"])
    for line in (f"Graded by {', '.join(_graders(sides, found))}.", *_notes(found)):
        typer.secho(line, dim=True)
    for line in (*looks, _TOO_BOLD) if looks else ():
        typer.secho(line)


def _graders(sides: tuple[Side, Side], names: Iterable[str]) -> list[str]:
    """The versions behind the verdicts: on a benchmark both sides have the same."""
    return list(dict.fromkeys(score.grader_version for name in names for score in sides[0].scores[name]))


def _sizes(difference: Difference) -> tuple[str, str]:
    return f"{difference.num_problems}×{difference.num_samples}", "/".join(map(str, difference.num_seeds))


def _tests(difference: Difference, p_holm: float | None, *, about_methods: bool) -> tuple[str, ...]:
    """What stands below `_METHODS`, or below `_CHECKPOINTS`."""
    from dashboards.render import difference_text, p_text

    detectable = f"{100 * difference.minimum_detectable:.1f}"
    if not about_methods:
        p_values = p_text(difference.p_checkpoints), p_text(difference.p_permutation)
        return difference_text(difference), *p_values, detectable
    p_values = p_text(difference.p_method), p_text(p_holm)
    return difference_text(difference), *p_values, detectable, str(difference.seeds_to_decide or "–")


def _mean(side: Side, name: str) -> float:
    return sum(score.avg for score in side.scores[name]) / len(side.scores[name])


def _notes(found: dict[str, Difference]) -> list[str]:
    if all(difference.covers_seeds for difference in found.values()):
        return [
            "Δ = A − B on the same questions, seeds paired where both sides have them; p: that the methods differ; "
            "p Holm: adjusted for the benchmarks of this table.",
            "detectable: the smallest true difference that these questions, samples and seeds show with 80 % power; "
            "seeds to decide: an arm, to show one of the size seen.",
        ]
    return [
        "Δ = A − B on the same questions; p: that these two checkpoints differ, paired t over questions; p flips: "
        "signs of the differences flipped.",
        "One seed: no verdict. Nothing here says what training again would give; a p about methods takes two seeds of "
        "each trained side.",
    ]
