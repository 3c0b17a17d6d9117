"""What `madrone calibrate` found and made, as JSON and for people."""

import msgspec

from app.calibration.intervals import SHARES, MeasuredLevel, Method
from app.models.predictions.reliability import Reliability


class CalibrationReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a calibration.

    Attributes:
        model: Address of the model, an alias resolved to the version.
        version: Its version.
        digest: SHA-256 over its files.
        target: Column with the actual values.
        rows: Number of rows.
        r2: Share of the target's variance that the predictions explain; null for a classifier, or a constant target.
        method: How intervals were made; null for a classifier.
        calibration_rows: Rows that they were calibrated on; null for a classifier.
        levels: Each level of the intervals.
        reliability: Figures of a classifier; null for a regressor.
        fitted_share: Share of what the last trees say that is true of these rows, 1 for rows that they were fitted on
            (see `app.calibration.optimism`); null where it is not known.
        added: What was added to the model.
        output: Directory that it was written to.
        registered_version: Version that it was registered as.
        notes: What to know about it, as sentences.
    """

    model: str
    version: str
    digest: str
    target: str
    rows: int
    r2: float | None = None
    method: Method | None = None
    calibration_rows: int | None = None
    levels: tuple[MeasuredLevel, ...] = ()
    reliability: Reliability | None = None
    fitted_share: float | None = None
    added: tuple[str, ...] = ()
    output: str | None = None
    registered_version: str | None = None
    notes: tuple[str, ...] = ()


def describe_calibration(report: CalibrationReport) -> str:
    """A report in lines for people."""
    fit = "" if report.r2 is None else f", R² {report.r2:.4g}"
    lines = [f"{report.model}: {report.rows} rows, target {report.target}{fit}", ""]
    if report.levels:
        lines += _about_intervals(report)
    if report.reliability is not None:
        lines += _about_classifier(report.reliability)
    lines += [f"Note: {note}" for note in report.notes]
    written = report.output is not None or report.registered_version is not None
    lines.append(
        f"{'Added' if written else 'To add'}: {', '.join(report.added)}. Predictions are the same to the last bit."
    )
    if report.output is not None:
        lines.append(f"Written to {report.output}")
    if report.registered_version is not None:
        lines.append(f"Registered as version {report.registered_version}; no alias was moved")
    if not written:
        lines.append("Nothing was written: --register makes it the next version, --output DIR writes a directory")
    return "\n".join(lines)


def _about_intervals(report: CalibrationReport) -> list[str]:
    names = [f"{share:.0%}" for share in SHARES]
    lines = [
        f"Intervals ({report.method}), calibrated on {report.calibration_rows} rows and measured on others:",
        "",
        "                 half-width                        coverage",
        f"   level  {names[0]:>10}  {names[1]:>10}  {names[2]:>10}    all  worst tenth    rows",
    ]
    for found in report.levels:
        widths = "  ".join(f"{width:10.4g}" for width in found.half_widths)
        lines.append(
            f"  {found.level:6}  {widths}  {found.coverage:.3f}        {found.worst_tenth:.3f}  {found.rows:6}"
        )
    return [*lines, ""]


def _about_classifier(found: Reliability) -> list[str]:
    event = "are of the second class" if found.event == "second_class" else "are of the class that is the most probable"
    lines = [
        f"Reliability on {found.rows} rows, {found.actual:.1%} of which {event}:",
        f"  log loss {found.log_loss:.4f}, Brier score {found.brier:.4f}, "
        f"expected calibration error {found.calibration_error:.4f}",
        "",
        "   predicted    rows    mean  actual",
    ]
    lines += [
        f"  {part.low:.1f} to {part.high:.1f}  {part.rows:6}  {part.predicted:.4f}  {part.actual:.4f}"
        for part in found.bins
        if part.rows
    ]
    if found.thresholds:
        lines += [
            "",
            f"Thresholds, chosen on one half of the rows and measured on the other, {found.threshold_rows} rows:",
            "",
            "  chosen for         threshold  precision  recall      F1  balanced accuracy  positive",
        ]
    for one in found.thresholds:
        goal = one.goal.replace("_", " ") + ("" if one.asked is None else f" {one.asked:g}")
        lines.append(
            f"  {goal:<17} {one.threshold:10.6f}     {one.precision:.4f}  {one.recall:.4f}  {one.f1:.4f}"
            f"             {one.balanced_accuracy:.4f}    {one.positive:.4f}"
        )
    return [*lines, ""]
