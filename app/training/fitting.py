"""Fits a recipe's feature plan on rows, and computes those rows' features as if they were unseen.

A row's features must contain nothing of its own target: the forest would learn to read it there, and find nothing in
other rows. So for the fit rows every reference step leaves out the row itself: neighbours are searched without it, and
a Gaussian process's mean is the closed-form leave-one-out value.
"""

from typing import cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.training import gaussian_process
from app.training.gaussian_process import Posterior
from app.training.recipe import Recipe
from kernels.cpu.backend import CpuBackend
from kernels.plan.plan import GaussianProcess, Input, Neighbours, Plan, PlanError, References
from kernels.plan.program import Program, pack
from kernels.plan.references import AnyReferenceStep, reference_names
from kernels.plan.steps import StepBase

OUTSIDE_QUANTILE = 0.99
"""Quantile of the distances between each fit row and the nearest other one: a row farther away is called outside."""

Array = NDArray[np.float64]
Features = NDArray[np.float32]
Labels = NDArray[np.int32]


class FittedPlan(msgspec.Struct, frozen=True):
    """A plan fitted on N rows.

    Attributes:
        plan: The plan.
        table: float64[M, C], the stored rows: the fit rows whose reference columns are all finite. None without steps
            that need them.
        stored: int[M], indices of the stored rows among the fit rows.
        posteriors: Posterior of each Gaussian process, by the name of its output.
        rows: float64[N, F], the fit rows.
    """

    plan: Plan
    table: Array | None
    stored: NDArray[np.intp]
    posteriors: dict[str, Posterior]
    rows: Array

    def features(self, X: Array) -> Features:
        """Features of rows that the plan was not fitted on: float64[B, F] to float32[B, O]."""
        return CpuBackend().transform(self._program(), X)

    def own_features(self) -> Features:
        """float32[N, O]: features of the fit rows, each computed without the row itself."""
        labels = np.arange(len(self.rows), dtype=np.int32)
        means = {name: posterior.leave_one_out() for name, posterior in self.posteriors.items()}
        return self._without(labels, means)

    def area_features(self, areas: Labels) -> Features:
        """float32[N, O]: features of the fit rows, each computed without the rows of its own area.

        Args:
            areas: int32[N], the area of each fit row.
        """
        stored = areas[self.stored]
        means = {name: posterior.leave_group_out(stored) for name, posterior in self.posteriors.items()}
        return self._without(areas, means)

    def _program(self) -> Program:
        return self.plan.program(self.table)

    def _without(self, labels: Labels, means: dict[str, Array]) -> Features:
        features = CpuBackend().transform(self._program(), self.rows, labels[self.stored], labels)
        for name, values in means.items():
            if name in self.plan.outputs:
                features[self.stored, self.plan.outputs.index(name)] = values
        return features


def fit_plan(recipe: Recipe, names: tuple[str, ...], X: Array, y: Array) -> FittedPlan:
    """Fit a recipe's plan.

    Args:
        recipe: What to fit.
        names: The F columns of X.
        X: float64[N, F], only the rows that the model is fitted on.
        y: float64[N], the target of these rows.

    Raises:
        PlanError: The recipe's plan is not valid.
        ValueError: A Gaussian process cannot be fitted.
    """
    inputs = _inputs(recipe, names, X)
    if not recipe.references:
        outputs = recipe.outputs or (*names, *(step.output for step in recipe.steps))
        return FittedPlan(Plan(inputs=inputs, steps=recipe.steps, outputs=outputs), None, np.arange(0), {}, X)
    operands = reference_names(recipe.references)
    # Built for the checks of its constructor: stateless steps must be valid before they run.
    known = {*Plan(inputs=inputs, steps=recipe.steps, outputs=names).outputs, *(step.output for step in recipe.steps)}
    if unknown := [name for name in operands if name not in known]:
        raise PlanError(f"references: {unknown[0]!r} is neither an input nor the output of a stateless step")
    stateless = pack(names, cast("tuple[StepBase, ...]", recipe.steps), (), points=operands)
    places = CpuBackend().points(stateless, X)
    stored = np.flatnonzero(np.isfinite(places).all(axis=1))
    columns = dict(zip(operands, places[stored].T, strict=True))
    target = y[stored]
    steps: list[AnyReferenceStep] = []
    posteriors: dict[str, Posterior] = {}
    for step in recipe.references:
        if isinstance(step, GaussianProcess):
            if step.weights in columns:
                raise PlanError(f"reference step {step.output!r}: weights {step.weights!r} is a column already")
            fitted = gaussian_process.fit_covariance(step, columns, target)
            posteriors[step.output] = gaussian_process.solve(fitted, columns, target)
            columns[step.weights] = posteriors[step.output].weights
        else:
            fitted = _with_scales(step, columns)
        columns[step.target] = target
        steps.append(fitted)
    needed = dict.fromkeys(name for step in steps for name in step.table_names())
    table = np.ascontiguousarray(np.column_stack([columns[name] for name in needed]))
    outputs = recipe.outputs or (
        *names,
        *(step.output for step in recipe.steps),
        *(name for step in steps for name in step.outputs),
    )
    plan = Plan(
        inputs=inputs,
        steps=recipe.steps,
        references=References(rows=len(table), columns=tuple(needed), steps=tuple(steps)),
        outputs=outputs,
    )
    fit = FittedPlan(plan, table, stored, posteriors, X)
    return msgspec.structs.replace(fit, plan=_with_limit(fit))


def _inputs(recipe: Recipe, names: tuple[str, ...], X: Array) -> tuple[Input, ...]:
    described = {column.name: column for column in recipe.inputs}
    low, high = np.nanmin(X, axis=0).tolist(), np.nanmax(X, axis=0).tolist()
    return tuple(
        msgspec.structs.replace(described.get(name, Input(name=name)), training_range=(low[index], high[index]))
        for index, name in enumerate(names)
    )


def _with_scales(step: Neighbours, columns: dict[str, Array]) -> Neighbours:
    """The step with all scales; those not given are the columns' standard deviations."""

    def scales(names: tuple[str, ...]) -> tuple[float, ...]:
        return tuple(float(columns[name].std()) or 1.0 for name in names)

    return msgspec.structs.replace(
        step,
        scales=step.scales or scales(step.inputs),
        regressions=tuple(
            msgspec.structs.replace(regression, scales=regression.scales or scales(regression.inputs))
            for regression in step.regressions
        ),
    )


def _with_limit(fit: FittedPlan) -> Plan:
    """The plan with a limit for rows outside, on the first neighbours step with a distance feature, if none has one."""
    references = fit.plan.references
    if references is None:
        return fit.plan
    searches = [(index, step) for index, step in enumerate(references.steps) if isinstance(step, Neighbours)]
    open_steps = [(index, step) for index, step in searches if step.nearest in fit.plan.outputs]
    if not open_steps or any(step.outside_distance is not None for _, step in searches):
        return fit.plan
    index, step = open_steps[0]
    # With the distance as the only feature, no other step is computed.
    only = msgspec.structs.replace(fit, plan=msgspec.structs.replace(fit.plan, outputs=(step.nearest,)), posteriors={})
    distances = only.own_features()[fit.stored, 0]
    limited = msgspec.structs.replace(step, outside_distance=float(np.quantile(distances, OUTSIDE_QUANTILE)))
    steps = (*references.steps[:index], limited, *references.steps[index + 1 :])
    return msgspec.structs.replace(fit.plan, references=msgspec.structs.replace(references, steps=steps))
