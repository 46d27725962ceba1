"""What `orch plan --cluster` adds: hours, GPU-hours, money, disk, and a schedule beside its lower bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.cli.plan_fit import FitLine, fit_lines
from orchestrator.codec import encode
from orchestrator.config.shape import ModelShape, shape_of
from orchestrator.config.spec import SweepSpec
from orchestrator.errors import PlanError
from orchestrator.forecast.bill import Bill, make_bill
from orchestrator.forecast.cluster import Cluster
from orchestrator.forecast.history import finished_pieces, measurements
from orchestrator.forecast.measured import Estimate, total
from orchestrator.forecast.simulator import Forecast, simulate
from orchestrator.forecast.trial_cost import Coster, question_counter
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.sizing.assumptions import Assumptions
from orchestrator.sizing.phases import GB
from orchestrator.store.store import Store
from orchestrator.sweep.nodes import check_fits, request_of
from trainers.recipe import Model

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CostAsked:
    """What the command line says about costs."""

    cluster: Cluster
    price: float | None
    assumed: Assumptions

    def cost(
        self, specs: Sequence[SweepSpec], plans: Sequence[Plan], runs: Store, data_folder: Path | None
    ) -> PlanCost:
        """Cost plans and simulate what is left of them.

        Raises:
            PlanError: a trial that fits no node of the cluster or not its GPUs, or whose model has no known shape.
        """
        for plan in plans:
            self._check(plan)
        declared = {point.recipe.model.path: point.shape for spec in specs for point in spec.points if point.shape}

        def known_shape(planned: PlannedTrial) -> ModelShape:
            return _shape(planned.trial.model, declared)

        count_of = question_counter(data_folder)
        measured = measurements(runs, shape_of=known_shape, count_of=count_of, assumed=self.assumed)
        coster = Coster(
            device_of=self.cluster.device,
            shape_of=known_shape,
            count_of=count_of,
            assumed=self.assumed,
            measured=measured,
        )
        known = set(runs.trial_ids()) if runs.root.is_dir() else set()

        def finished_of(trial_id: str) -> frozenset[str]:
            return finished_pieces(runs.find(trial_id)) if trial_id in known else frozenset()

        bill = make_bill(plans, coster, finished_of)
        limits = [spec.scheduling.max_concurrent for spec in specs if spec.scheduling.max_concurrent is not None]
        caps = {label: cap for plan in plans for label, cap in plan.schedule.caps.items()}
        forecast = simulate(self.cluster.nodes, bill.tasks, caps=caps, max_running=min(limits, default=None))
        return PlanCost(
            asked=self,
            bill=bill,
            forecast=forecast,
            coster=coster,
            num_measured=len(measured),
            fits=fit_lines(plans, coster),
        )

    def _check(self, plan: Plan) -> None:
        checked = set()
        for planned in plan.entries:
            request = request_of(planned.resources)
            if request not in checked:
                name = f"trial {planned.trial.id} ({planned.label}) of {plan.experiment}"
                fix = "change the experiment's cluster, or plan for other nodes with --cluster"
                check_fits(self.cluster.nodes, request, name=name, fix=fix)
                checked.add(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCost:
    """The costs of some plans, ready to be shown."""

    asked: CostAsked
    bill: Bill
    forecast: Forecast
    coster: Coster
    num_measured: int
    """Finished trainings and evaluations of the runs folder that could be compared with."""
    fits: tuple[FitLine, ...]
    """How the trials are cut to fit their GPUs."""

    def cells(self, planned: PlannedTrial) -> tuple[str, str]:
        """Hours and GPU-hours of a trial."""
        cost = self.coster.cost(planned)
        spent = total(piece.estimate for piece in cost.pieces)
        return hours(spent.seconds), hours(spent.seconds * cost.num_gpus)

    def gpu_hours(self, planned: PlannedTrial) -> float:
        """Of one trial, from its beginning."""
        cost = self.coster.cost(planned)
        return total(piece.estimate for piece in cost.pieces).seconds * cost.num_gpus / _HOUR_S

    def trial_json(self, planned: PlannedTrial) -> dict[str, Any]:
        """Of one trial: seconds with their interval, by modelled phase, GPU-hours, disk."""
        cost = self.coster.cost(planned)
        spent = total(piece.estimate for piece in cost.pieces)
        return {
            **_interval(spent, "seconds", 1.0),
            "is_measured": spent.is_measured,
            "gpu_hours": self.gpu_hours(planned),
            "modelled_phase_seconds": dict(cost.phase_seconds),
            "disk_gb": cost.disk_gb,
            "resources": encode(cost.fit.resources),
            "peak_gb_per_device": {phase: cost.fit.peak(phase) / GB for phase in cost.fit.phases},
        }

    def json(self) -> dict[str, Any]:
        """Of all trials together."""
        price = self.asked.price
        return {
            "cluster": self.asked.cluster.text,
            "num_trials": self.bill.num_trials,
            "gpu_hours": _interval(self.bill.after_sharing, "expected", _HOUR_S),
            "gpu_hours_before_sharing": _interval(self.bill.before_sharing, "expected", _HOUR_S),
            "gpu_hours_left": _interval(self.bill.left, "expected", _HOUR_S),
            "makespan_s": _interval(self._makespan(), "expected", 1.0),
            "lower_bound_s": self.forecast.bound_s,
            "money_left": None
            if price is None
            else _interval(self.bill.left, "expected", _HOUR_S / price)
            if price
            else 0,
            "disk_gb": self.bill.disk_gb,
            "num_measured": self.num_measured,
            "fits": [line.json() for line in self.fits],
        }

    def text(self, *, with_fits: bool = True) -> str:
        """The lines below a plan's table."""
        left, makespan = self.bill.left, self._makespan()
        lines = [
            f"on {self.asked.cluster}:",
            f"  makespan   {span(makespan, _HOUR_S)} h, {self.forecast.ratio:.2f} × its lower bound "
            f"{hours(self.forecast.bound_s)} h",
            f"  GPU-hours  {span(left, _HOUR_S)}{self._of_all()}",
        ]
        if self.asked.price is not None:
            paid = replace(left, seconds=left.seconds * self.asked.price)
            lines.append(f"  money      {span(paid, _HOUR_S)} at {self.asked.price:g} a GPU-hour")
        lines.append(f"  disk       {amount(self.bill.disk_gb)} GB at the end of all")
        basis = "shapes of models and the assumptions of docs/operations.md"
        if self.num_measured:
            basis += f"; {self.num_measured} finished trainings and evaluations where they are near"
        lines.append(f"  from       {basis}")
        fits = [line for line in self.fits if line.fit.phases] if with_fits else []
        lines += [f"  {'' if index else 'fit':9}  {line.text()}" for index, line in enumerate(fits)]
        return "\n".join(lines)

    def _of_all(self) -> str:
        everything = self.bill.after_sharing.seconds
        if self.bill.left.seconds >= everything * (1 - 1e-9):
            return ""
        return f" left of {hours(everything)}"

    def _makespan(self) -> Estimate:
        return replace(self.bill.left_s, seconds=self.forecast.makespan_s)


def hours(seconds: float) -> str:
    """Hours with as many digits as say something."""
    return amount(seconds / _HOUR_S)


def span(spent: Estimate, unit: float) -> str:
    """`12 (6.0–24)`."""
    return f"{amount(spent.seconds / unit)} ({amount(spent.low_s / unit)}–{amount(spent.high_s / unit)})"


def amount(value: float) -> str:
    """Two significant digits below ten, whole numbers from there."""
    if value >= 10 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _interval(spent: Estimate, name: str, unit: float) -> dict[str, float]:
    return {name: spent.seconds / unit, "low": spent.low_s / unit, "high": spent.high_s / unit}


def _shape(model: Model, declared: dict[str, ModelShape]) -> ModelShape:
    shape = shape_of(model, declared.get(model.path))
    if shape is None:
        raise PlanError(
            f"nothing says what shape {model.path} has, so its trials have no cost",
            where="model",
            fix="add num_layers, hidden_size and the like to its file in model/ (docs/operations.md), "
            "or give a local folder as model.path",
        )
    return shape
