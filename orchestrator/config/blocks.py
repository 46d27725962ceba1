"""The blocks of an experiment that are data and nothing else: what a person may write, its defaults and its ranges.

Recipe, model, data and resources stand in `trainers.api`, since trainers read them; here stands what only orch reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from eval.errors import OrchError
from eval.sequential.design import Design
from trainers.recipe.ranges import check_finite, require

GREATEST_SEED = 2**31 - 1
"""What every library takes: numpy stops at 32 bits, and engines add ranks to a seed."""


class Misfit(OrchError):
    """A key or value that does not fit its section; `where` is the dotted key, without the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSettings:
    """What every checkpoint of a sweep is evaluated on. Not part of a trial's identity: scores carry their own key."""

    benchmarks: tuple[str, ...]
    num_samples: int
    """K of avg@K."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int
    template: str
    engine: Literal["hf", "vllm", "openai"] = "hf"
    every_steps: int | None = None
    """Also evaluate during training, every so many steps; None evaluates the final policy only."""
    limit: int | None = None
    """Use only the first problems of each benchmark."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise OrchError if there is nothing to evaluate or a number is out of range."""
        check_finite("eval", self)
        names = self.benchmarks
        require(bool(names), "eval.benchmarks", "[]", "a list with at least one benchmark")
        require(len(set(names)) == len(names), "eval.benchmarks", list(names), "a list of different benchmarks")
        for name in ("num_samples", "max_new_tokens", "every_steps", "limit"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"eval.{name}", value, "1 or more")
        require(self.temperature >= 0, "eval.temperature", self.temperature, "0 or more")
        require(0 < self.top_p <= 1, "eval.top_p", self.top_p, "in (0, 1]")
        require(0 <= self.seed <= GREATEST_SEED, "eval.seed", self.seed, f"from 0 to {GREATEST_SEED}")


GuardName = Literal["zero_advantage", "entropy", "length", "reward", "clip_rate"]

GuardAction = Literal["warn", "pause", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """The block `guards:` of an experiment: a limit for each guard, null to switch it off."""

    window: int = 10
    """Training steps over which a metric is averaged."""
    zero_advantage: float | None = 0.9
    """Share of groups whose rewards are all equal, from which nothing is learned: at or above."""
    entropy: float | None = 0.1
    """Mean token entropy as a share of that of the first `window` steps: at or below."""
    length: float | None = 3.0
    """Mean response length as a multiple of that of the first `window` steps: at or above."""
    reward: float | None = 0.0
    """Mean reward: at or below."""
    clip_rate: float | None = 0.3
    """Share of tokens whose surrogate is clipped: at or above."""
    pause: tuple[GuardName, ...] = ()
    """Guards that write a checkpoint and pause the trial until `orch ctl resume`."""
    stop: tuple[GuardName, ...] = ()
    """Guards that write a checkpoint and cancel the trial until `orch ctl requeue`."""

    def __post_init__(self) -> None:
        """Raise OrchError for a window or a limit that means nothing, or an action for a guard that is off."""
        check_finite("guards", self)
        require(self.window >= 1, "guards.window", self.window, "1 or more")
        for name in ("zero_advantage", "clip_rate"):
            limit = getattr(self, name)
            require(limit is None or 0 < limit <= 1, f"guards.{name}", limit, "in (0, 1], or null")
        require(self.entropy is None or 0 < self.entropy < 1, "guards.entropy", self.entropy, "in (0, 1), or null")
        require(self.length is None or self.length > 1, "guards.length", self.length, "above 1, or null")
        for action in ("pause", "stop"):
            for guard in getattr(self, action):
                is_on = getattr(self, guard) is not None
                require(is_on, f"guards.{action}", guard, f"a guard that is on: guards.{guard} is null")
        both = sorted({*self.pause} & {*self.stop})
        require(not both, "guards.pause", both, "guards that are not under guards.stop as well")

    def action_of(self, guard: GuardName) -> GuardAction:
        """What happens when a guard's limit is crossed."""
        if guard in self.stop:
            return "stop"
        return "pause" if guard in self.pause else "warn"


EventKind = Literal["finished", "failed", "guard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """The block `notify:` of an experiment."""

    events: tuple[EventKind, ...] = ("finished", "failed", "guard")
    """Which events are sent: the end of the sweep, a failed trial, a guard's alarm."""
    command: tuple[str, ...] | None = None
    """A program with its arguments; the event is a JSON object on its standard input."""
    webhook_env: str | None = None
    """Name of the environment variable that holds an address; the event is POSTed there as JSON."""

    def __post_init__(self) -> None:
        """Raise OrchError for an empty command, or an address where the name of a variable belongs."""
        require(self.command is None or bool(self.command), "notify.command", "[]", "a program and its arguments")
        name = self.webhook_env
        is_name = name is None or name.isidentifier()
        require(is_name, "notify.webhook_env", "no name", "the NAME of an environment variable, not an address")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling:
    """How a sweep is run: the keys of the group `cluster/` beside those of `Resources`."""

    scheduler: Literal["ray_tune", "inline"] = "ray_tune"
    max_concurrent: int | None = None
    """Trials at once; None lets the resources decide."""
    address: str | None = None
    """Ray cluster to join (`auto`, `ray://…`); None starts a local one."""

    def __post_init__(self) -> None:
        """Raise OrchError if no trial could ever run."""
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise Misfit(
                f"cluster.max_concurrent is {self.max_concurrent}",
                where="cluster.max_concurrent",
                fix="it must be 1 or more, or null",
            )


Where = Mapping[str, tuple[str, ...]]
"""Trait → the values of which one is wanted; all traits must fit."""


def spell(where: Where) -> str:
    """For example `algorithm=dapo selection=ets,gmts`."""
    return " ".join(f"{name}={','.join(values)}" for name, values in where.items())


KEY = "schedule"

DEADLINE_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Priority:
    """When some trials start."""

    where: dict[str, tuple[str, ...]]
    value: int
    """Higher starts first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """How many of some trials run at once."""

    where: dict[str, tuple[str, ...]]
    running: int

    @property
    def label(self) -> str:
        """What the planner counts, for example `algorithm=dapo`."""
        return spell(self.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A checked block."""

    priority: tuple[Priority, ...] = ()
    at_most: tuple[Cap, ...] = ()
    deadline_s: float | None = DEADLINE_S
    """Seconds after which a trial that the cluster cannot place, or does not, fails instead of waiting."""

    @property
    def caps(self) -> dict[str, int]:
        """Label → most at once."""
        return {cap.label: cap.running for cap in self.at_most}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredContrast:
    """Arms that are compared in order to decide: each of the first with each of the second, where they may be."""

    first: dict[str, tuple[str, ...]]
    second: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class UntilDecided:
    """`sweep.seeds` where looks at the data say how many there are."""

    design: Design
    """Its alpha is that of all contrasts together."""
    contrasts: tuple[DeclaredContrast, ...] = ()
    """Empty: each selector against ETS, and against random tokens, at its ratio."""
