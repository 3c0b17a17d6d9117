"""The report of a replay: how the predictions of another version differ from the logged ones."""

from datetime import datetime

import msgspec

from app.outcomes.report import Figures


class Reason(msgspec.Struct, frozen=True):
    """Why rows were not taken, or what was said about them.

    Attributes:
        field: Feature.
        message: What is wrong with it.
        rows: Number of rows.
    """

    field: str
    message: str
    rows: int


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """Distribution of the replayed prediction minus the logged one, in the unit of the predictions.

    Of a model with several outputs, the difference of a row is that of the output where it is largest.

    Attributes:
        mean: Mean.
        mean_absolute: Mean of the absolute differences.
        rms: Root of the mean squared difference.
        largest: Largest absolute difference.
        quantiles: Quantile by its share.
    """

    mean: float
    mean_absolute: float
    rms: float
    largest: float
    quantiles: dict[str, float]


class WorstRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row whose predictions differ most."""

    request_id: str
    row: int | None
    created_at: datetime
    logged: float | list[float]
    replayed: float | list[float]
    difference: float
    actual: str | float | bool | None


class KnownOutcomes(msgspec.Struct, frozen=True, kw_only=True):
    """Error of both versions on the rows whose outcomes are known.

    Attributes:
        rows: Number of these rows.
        logged: Figures of the logged predictions.
        replayed: Figures of the replayed ones.
    """

    rows: int
    logged: Figures
    replayed: Figures


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that one version had answered.

    Attributes:
        logged_version: The version.
        rows: Its rows.
        without_index: Rows of batches that an early release logged, without their index: their outcomes are unknown.
        compared: Rows that both versions could predict.
        identical: Rows of these whose predictions are the same to the last bit.
        not_taken: Rows that the replayed version does not take.
        reasons: Why; the most frequent ones first.
        warnings: What it says about rows that it takes.
        not_finite: Rows without a finite prediction.
        other_outputs: Rows whose predictions have another number of outputs.
        unused_features: Logged features that the replayed version does not take.
        differences: Distribution of the differences; null where no row was compared.
        with_interval: Compared rows whose interval was logged.
        outside_interval: Rows of these whose replayed prediction is outside of it.
        outcomes: Error of both versions; null where no outcome is known.
        worst: Rows that differ most.
    """

    logged_version: str
    rows: int
    without_index: int
    compared: int
    identical: int
    not_taken: int
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]
    not_finite: int
    other_outputs: int
    unused_features: tuple[str, ...]
    differences: Differences | None
    with_interval: int
    outside_interval: int
    outcomes: KnownOutcomes | None
    worst: tuple[WorstRow, ...]


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a replay.

    Attributes:
        model: Name of the model whose rows were replayed.
        replayed_model: Name of the model that they were replayed with.
        replayed_version: Its version.
        digest: Digest of its files.
        since: Start of the rows.
        until: Their end; null for none.
        rows: Number of rows.
        limited: Whether there may be more of them, beyond the limit.
        comparisons: Rows by the version that had answered, the one of most rows first.
    """

    model: str
    replayed_model: str
    replayed_version: str
    digest: str
    since: datetime
    until: datetime | None
    rows: int
    limited: bool
    comparisons: tuple[Comparison, ...]


def describe_replay(report: ReplayReport) -> str:
    """A report in lines for people."""
    limited = " (the newest; --limit allows no more)" if report.limited else ""
    lines = [
        f"{report.rows} logged rows of {report.model}{limited}, replayed with {report.replayed_model}, "
        f"version {report.replayed_version}."
    ]
    for comparison in report.comparisons:
        lines += ["", *_lines(comparison)]
    return "\n".join(lines)


def _lines(found: Comparison) -> list[str]:
    lines = [
        f"Answered by version {found.logged_version}: {found.rows} rows, {found.compared} compared, "
        f"{found.identical} of these identical."
    ]
    if found.not_taken:
        lines.append(f"  {found.not_taken} rows are not taken:")
        lines += [f"    {reason.field}: {reason.message} ({reason.rows} rows)" for reason in found.reasons]
    lines += [f"  Note: {warning.message} ({warning.rows} rows)." for warning in found.warnings]
    if found.not_finite:
        lines.append(f"  {found.not_finite} rows have no finite prediction.")
    if found.other_outputs:
        lines.append(f"  {found.other_outputs} predictions have another number of outputs.")
    if found.unused_features:
        lines.append(f"  Features that it does not take: {', '.join(found.unused_features)}.")
    if (differences := found.differences) is not None:
        lines.append(
            f"  Difference: mean {differences.mean:+.6g}, mean absolute {differences.mean_absolute:.6g}, "
            f"RMS {differences.rms:.6g}, largest {differences.largest:.6g}."
        )
        shares = ", ".join(f"{float(share):.0%} {value:+.4g}" for share, value in differences.quantiles.items())
        lines.append(f"  Quantiles: {shares}.")
    if found.with_interval:
        lines.append(f"  {found.outside_interval} of {found.with_interval} are outside the logged interval.")
    if found.without_index:
        lines.append(f"  {found.without_index} rows of batches have no index (early releases), so no known outcome.")
    if (outcomes := found.outcomes) is not None:
        lines.append(f"  Outcomes of {outcomes.rows} rows are known:")
        for name, figures in (("logged", outcomes.logged), ("replayed", outcomes.replayed)):
            values = msgspec.to_builtins(figures)
            lines.append(f"    {name:8} " + ", ".join(f"{key} {value:.6g}" for key, value in values.items()))
    if found.worst:
        lines.append("  Rows that differ most:")
    for row in found.worst:
        place = "" if row.row is None else f" row {row.row}"
        known = "" if row.actual is None else f", actual {row.actual}"
        lines.append(
            f"    {row.request_id}{place}: logged {_number(row.logged)}, replayed {_number(row.replayed)} "
            f"({row.difference:+.6g}){known}"
        )
    return lines


def _number(value: float | list[float]) -> str:
    return f"{value:.6g}" if not isinstance(value, list) else "[" + ", ".join(f"{one:.6g}" for one in value) + "]"
