"""Series of the outcomes and of the error of each model version in service."""

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.outcomes.report import OutcomesReport, Performance

GAUGES: dict[str, str] = {
    "outcome_rmse": "Root mean squared error of predictions whose outcomes are known, in the target's unit.",
    "outcome_mae": "Mean absolute error of predictions whose outcomes are known, in the target's unit.",
    "outcome_r2": "Coefficient of determination of predictions whose outcomes are known.",
    "outcome_interval_coverage": "Share of the known actual values that are inside the prediction's interval.",
    "outcome_log_loss": "Log loss of predictions whose outcomes are known.",
    "outcome_auc": "Area under the ROC curve of predictions whose outcomes are known.",
    "outcome_calibration_error": "Expected calibration error of predictions whose outcomes are known, over ten bins.",
}
"""Help of the series of each figure. Where a figure is not known, its series is absent."""


class OutcomeSeries(Collector):
    """Series of the newest report.

    Args:
        report: Gives the report.
    """

    def __init__(self, report: Callable[[], OutcomesReport]) -> None:
        self._report = report

    def collect(self) -> Iterable[Metric]:
        """The families, for the registry."""
        versions = self._report().versions
        rows = "Rows of a version with a known outcome that its figures are of."
        yield _family("outcome_rows", rows, versions, lambda one: one.rows - one.unusable)
        for name, help_text in GAUGES.items():
            yield _family(name, help_text, versions, partial(_figure, name.removeprefix("outcome_")))


def _figure(name: str, version: Performance) -> float | None:
    return version.figures and getattr(version.figures, name)


def _family(
    name: str, help_text: str, versions: tuple[Performance, ...], value: Callable[[Performance], float | None]
) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=("model_name", "model_version"))
    for version in versions:
        if (number := value(version)) is not None:
            family.add_metric((version.model_name, version.model_version), number)
    return family
