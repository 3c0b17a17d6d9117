"""The panels of the dashboard. Their expressions read all instances; the dashboard adds what its variables select."""

from typing import Literal

import msgspec

from app.drift.limits import MAJOR, MODERATE
from app.ops.rules import BULK, PREDICTIONS

Kind = Literal["stat", "timeseries", "table", "status-history", "heatmap"]

Steps = tuple[tuple[float | None, str], ...]
Names = dict[str, tuple[str, str]]

WINDOW = "$__rate_interval"
VERSION = 'model_name=~"$model_name",model_version=~"$model_version"'
BY_MODEL = "model_name, model_version"
MODEL = "{{model_name}} {{model_version}}"
FEATURE = "{{model_name}} {{feature}}"
GREEN: Steps = ((None, "green"),)
HEALTH: Names = {"0": ("healthy", "green"), "1": ("degraded", "orange"), "2": ("unhealthy", "red")}
DRIFT_STEPS: Steps = ((None, "green"), (MODERATE, "orange"), (MAJOR, "red"))


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One panel.

    Attributes:
        title: A few words.
        text: What it shows, and when to worry.
        unit: Unit of its values, by Grafana's name.
        series: PromQL expressions, and the legends of their series. The columns of a table: their titles.
        kind: How it is drawn.
        width, height: Cells of the grid, of which a row has 24.
        stacked: Whether the series are parts of a whole.
        names: What values mean, and the colour of each.
        steps: Colours from values on.
        top: Upper end of the axis; None for that of the values.
    """

    title: str
    text: str
    unit: str
    series: dict[str, str]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 7
    stacked: bool = False
    names: Names = {}
    steps: Steps = GREEN
    top: float | None = None


class Row(msgspec.Struct, frozen=True):
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str = "") -> str:
    """Events a second of a counter, over all instances."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}[{WINDOW}]))"


def quantile(share: float, histogram: str, matchers: str = "", by: str = "") -> str:
    """Quantile of a histogram, over all instances."""
    buckets = f"{histogram}_bucket{{{matchers}}}" if matchers else f"{histogram}_bucket"
    return f"histogram_quantile({share}, sum by ({f'{by}, ' if by else ''}le) (rate({buckets}[{WINDOW}])))"


def stat(
    title: str,
    text: str,
    unit: str,
    expression: str,
    legend: str = "",
    *,
    steps: Steps = GREEN,
    names: Names | None = None,
) -> Panel:
    """A figure of the first row."""
    return Panel(
        title=title, text=text, unit=unit, series={expression: legend}, kind="stat", width=3, height=4,
        names=names or {}, steps=steps,
    )  # fmt: skip


REQUESTS = rate(f"api_requests_total{{{PREDICTIONS}}}")
FAILED = rate(f'api_requests_total{{{PREDICTIONS},status_code=~"5.."}}')
FEW_ROWS = f"{PREDICTIONS},{BULK}"
LATENCY = "api_request_duration_seconds"

OVERVIEW = Row(
    "Overview",
    (
        stat("Health", "Worst status of all instances; /health/detailed has the reasons.", "none",
             "max(service_status)", names=HEALTH, steps=((None, "green"), (1, "orange"), (2, "red"))),
        stat("Ready", "Models in service, in all instances.", "none", "sum(model_status)"),
        stat("Model version", "Versions in service. Two of them stand side by side during a roll-out only.", "none",
             f"max by ({BY_MODEL}) (model_info)", MODEL),
        stat("Requests", "Prediction requests answered a second.", "reqps", REQUESTS),
        stat("Errors", "Share of prediction requests with a status of 500 or more. Worry above 1 %.", "percentunit",
             f"({FAILED} or vector(0)) / {REQUESTS}", steps=((None, "green"), (0.001, "orange"), (0.01, "red"))),
        stat("p50", "Half of the prediction requests, bulk left out, take no longer.", "s",
             quantile(0.5, LATENCY, FEW_ROWS)),
        stat("p99", "99 % of the prediction requests, bulk left out, take no longer.", "s",
             quantile(0.99, LATENCY, FEW_ROWS), steps=((None, "green"), (0.1, "orange"), (0.5, "red"))),
        stat("Saturation", "Share of a processor that the busiest instance uses. One event loop has one processor; "
             "threads for large batches take others.", "percentunit",
             f"max(rate(process_cpu_seconds_total[{WINDOW}]))",
             steps=((None, "green"), (0.7, "orange"), (0.9, "red"))),
        Panel(title="Requests by status", text="Prediction requests answered a second.", unit="reqps", stacked=True,
              series={rate(f"api_requests_total{{{PREDICTIONS}}}", "status_code"): "{{status_code}}"}),
        Panel(title="Errors by type", text="Requests answered with a status of 400 or more, by kind: of callers (such "
              "as invalid_input) and of the service (such as internal).", unit="reqps", stacked=True,
              series={rate("errors_total", "error_type"): "{{error_type}}"}),
        Panel(title="Latency", text="Prediction requests, bulk left out, from their head to the end of the answer.",
              unit="s", series={quantile(share, LATENCY, FEW_ROWS): f"p{share * 100:g}" for share in (0.5, 0.9, 0.99)}),
    ),
)  # fmt: skip

STAGES = Row(
    "Where the time goes",
    (
        Panel(title="Time by stage", text="Mean time of a request in each stage; together they are its duration.",
              unit="s", stacked=True,
              series={f"{rate('request_stage_duration_seconds_sum', 'stage')} / "
                      f"{rate('request_stage_duration_seconds_count', 'stage')}": "{{stage}}"}),
        Panel(title="p99 by stage", text="Slowest 1 % of each stage. A long queue is overload; a long send, slow "
              "clients.", unit="s",
              series={quantile(0.99, "request_stage_duration_seconds", by="stage"): "{{stage}}"}),
        Panel(title="Computation", text="Time of transforms and forest for a batch, waiting for a thread included.",
              unit="s", series={quantile(0.99, "prediction_duration_seconds", VERSION, BY_MODEL):
                                f"p99 of {MODEL}"}),
        Panel(title="Latency, all requests", text="Requests by duration: two bands are two kinds of requests.",
              unit="s", kind="heatmap", width=12,
              series={f"sum by (le) (increase({LATENCY}_bucket{{{PREDICTIONS}}}[{WINDOW}]))": "{{le}}"}),
        Panel(title="Rows of a request", text="Median and largest 1 % of the rows of a request.", unit="short",
              width=12,
              series={quantile(share, "request_rows", by="prediction_type"):
                      f"p{share * 100:g} {{{{prediction_type}}}}" for share in (0.5, 0.99)}),
    ),
)  # fmt: skip

LOAD = Row(
    "Load and refusals",
    (
        Panel(title="Predictions", text="Rows computed a second.", unit="rowsps", stacked=True,
              series={rate(f"predictions_total{{{VERSION}}}", f"{BY_MODEL}, prediction_type"):
                      f"{{{{prediction_type}}}} by {MODEL}"}),
        Panel(title="Refused requests", text="Requests refused before they were computed, by reason.", unit="reqps",
              stacked=True, series={rate("requests_refused_total", "reason"): "{{reason}}"}),
        Panel(title="Requests in flight", text="Requests that have begun and are not answered; a measure for "
              "autoscaling.", unit="short",
              series={"sum(requests_in_flight)": "all requests", "sum(predictions_in_progress)": "predictions"}),
        Panel(title="Rows in flight", text="Rows of requests in progress; those queued wait for a thread.",
              unit="short", series={"sum by (where) (rows_in_flight)": "{{where}}"}),
        Panel(title="Wait of small requests", text="How long they wait until they are read. Above LONGEST_WAIT they "
              "are refused.", unit="s", series={"max(predictions_wait_seconds)": "longest of all instances"}),
        Panel(title="Delay of the event loop", text="Every request waits for as long before anything is done for it.",
              unit="s", series={quantile(share, "event_loop_lag_seconds"): f"p{share * 100:g}"
                                for share in (0.5, 0.99)}),
    ),
)  # fmt: skip

PSI = f"max by (model_name, feature) (drift_psi{{{VERSION}}})"
MISSING = f"sum by (model_name, feature) (rate(feature_missing_total{{{VERSION}}}[{WINDOW}]))"
OUTSIDE = f"sum by (model_name, feature) (rate(feature_out_of_range_total{{{VERSION}}}[{WINDOW}]))"
ROWS = f"on (model_name) group_left () sum by (model_name) (rate(feature_rows_total{{{VERSION}}}[{WINDOW}]))"

DRIFT = Row(
    "Drift (it is not error: see below for that)",
    (
        Panel(title="Features, the most shifted first", text="Distance of each feature's distribution from the "
              f"reference, in the window of the service. PSI of {MODERATE} is moderate, {MAJOR} is major.", unit="none",
              kind="table", steps=DRIFT_STEPS,
              series={PSI: "PSI", f"max by (model_name, feature) (drift_ks{{{VERSION}}})": "KS",
                      f"max by (model_name, feature) (drift_js_divergence{{{VERSION}}})": "Jensen-Shannon"}),
        Panel(title="PSI by feature", text=f"Green is stable, orange moderate ({MODERATE}), red major ({MAJOR}).",
              unit="none", kind="status-history", width=16, steps=DRIFT_STEPS, series={PSI: FEATURE}),
        Panel(title="Shift of predictions", text="Distance of the predictions' distribution from that in training.",
              unit="none",
              series={f"max by (model_name, output) (drift_prediction_psi{{{VERSION}}})":
                      "PSI of {{model_name}} {{output}}",
                      f"max by (model_name, output) (drift_prediction_ks{{{VERSION}}})":
                      "KS of {{model_name}} {{output}}"}),
        Panel(title="Missing values", text="Share of rows in which a feature has no value.", unit="percentunit",
              series={f"{MISSING} / {ROWS}": FEATURE}),
        Panel(title="Out of range", text="Share of rows in which a feature is beyond what the reference has.",
              unit="percentunit", series={f"{OUTSIDE} / {ROWS}": FEATURE}),
    ),
)  # fmt: skip

BY_VERSION = f"max by ({BY_MODEL})"

TRUTH = Row(
    "Errors against the truth",
    (
        Panel(title="Error of regression", text="Of the newest rows whose outcome is known, in the target's unit.",
              unit="none", width=6, series={f"{BY_VERSION} (outcome_rmse{{{VERSION}}})": f"RMSE of {MODEL}",
                                            f"{BY_VERSION} (outcome_mae{{{VERSION}}})": f"MAE of {MODEL}"}),
        Panel(title="R² and coverage", text="Share of the variance that is explained, and of outcomes inside their "
              "interval, which should be the interval's level.", unit="percentunit", width=6,
              series={f"{BY_VERSION} (outcome_r2{{{VERSION}}})": f"R² of {MODEL}",
                      f"{BY_VERSION} (outcome_interval_coverage{{{VERSION}}})": f"coverage of {MODEL}"}),
        Panel(title="Classifiers", text="Log loss, calibration error (lower is better) and AUC (higher is better).",
              unit="none", width=4,
              series={f"{BY_VERSION} (outcome_log_loss{{{VERSION}}})": f"log loss of {MODEL}",
                      f"{BY_VERSION} (outcome_calibration_error{{{VERSION}}})": f"calibration of {MODEL}",
                      f"{BY_VERSION} (outcome_auc{{{VERSION}}})": f"AUC of {MODEL}"}),
        Panel(title="Outcomes reported", text="By what became of them: unknown ones have no prediction in the log.",
              unit="cps", width=4, series={rate("outcomes_total", "result"): "{{result}}"}),
        Panel(title="Rows with an outcome", text="Rows that the errors are computed from.", unit="short", width=4,
              series={f"{BY_VERSION} (outcome_rows{{{VERSION}}})": MODEL}),
    ),
)  # fmt: skip

REGISTRY = Row(
    "Registry and models",
    (
        Panel(title="Age of the registry's answer", text="Time since it last said which version it prefers; at most "
              "MODEL_CACHE_TTL while all is well.", unit="s", width=6,
              series={"max(model_age_seconds)": "oldest of all instances"}),
        Panel(title="Looks into the registry", text="By what came of them in the last hour.", unit="short", width=6,
              series={"sum by (outcome) (increase(model_refreshes_total[1h]))": "{{outcome}}"}),
        Panel(title="Swaps and refusals", text="Models put into service, and versions refused by a check, in the last "
              "hour.", unit="short", width=6,
              series={"sum by (role) (increase(model_swaps_total[1h]))": "{{role}} swapped",
                      "sum by (role, check) (increase(model_refusals_total[1h]))": "{{role}} refused: {{check}}"}),
        Panel(title="Dependencies", text="1 while the registry, and the database of the prediction log, answer.",
              unit="none", width=6, top=1, series={"min by (dependency) (dependency_up)": "{{dependency}}"}),
        Panel(title="Instances by version", text="Instances that have each version in service. Two versions stand "
              "side by side while a change reaches them all; for longer, the fleet is mixed.", unit="short", width=24,
              height=5, stacked=True,
              series={f"count by (model_name, model_version) (model_info{{{VERSION}}})":
                      "{{model_name}} {{model_version}}"}),
    ),
)  # fmt: skip

LOG = Row(
    "Prediction log",
    (
        Panel(title="Rows", text="Rows written, dropped and pruned a second. Dropped ones are lost.", unit="rowsps",
              width=6, series={rate("prediction_log_rows_total", "outcome"): "{{outcome}}",
                               rate("prediction_log_pruned_rows_total"): "pruned"}),
        Panel(title="Rows that wait", text="Rows of answered requests that are not written. If it grows, the database "
              "is away or too slow.", unit="short", width=6,
              series={"sum(prediction_log_rows_waiting)": "rows"}),
        Panel(title="Spool", text="Bytes of a durable log on the local disk; at PREDICTION_LOG_SPOOL_BYTES predictions "
              "are refused.", unit="bytes", width=6, series={"max(prediction_log_spool_bytes)": "largest"}),
        Panel(title="Time of a write", text="Last transaction of the database, and the flush of a durable log.",
              unit="s", width=6,
              series={'max(dependency_latency_seconds{dependency="prediction_log"})': "transaction",
                      quantile(0.99, "prediction_log_flush_seconds"): "flush, p99"}),
    ),
)  # fmt: skip

GPU = Row(
    "GPU",
    (
        Panel(title="Use", text="Share of time in which a kernel ran.", unit="percent", width=6, top=100,
              series={"max by (uuid) (gpu_utilization_percent)": "{{uuid}}"}),
        Panel(title="Memory", text="Share of the device's memory in use.", unit="percentunit", width=6, top=1,
              series={"max by (uuid) (gpu_memory_used_bytes / gpu_memory_total_bytes)": "{{uuid}}"}),
        Panel(title="Temperature", text="Devices slow down above about 85 °C.", unit="celsius", width=6,
              series={"max by (uuid) (gpu_temperature_celsius)": "{{uuid}}"}),
        Panel(title="Backends in use", text="0 once a backend has failed: the CPU answers.", unit="none", width=6,
              top=1, series={"min by (backend, device) (compute_backend_usable)": "{{backend}} {{device}}"}),
    ),
)  # fmt: skip

PROCESS = Row(
    "Process",
    (
        Panel(title="Processors", text="Processors in use by each instance.", unit="short", width=6,
              series={f"rate(process_cpu_seconds_total[{WINDOW}])": "{{instance}}"}),
        Panel(title="Memory of the process", text="Resident memory; about 300 MB with the bundled model.", unit="bytes",
              width=6, series={"process_resident_memory_bytes": "{{instance}}"}),
        Panel(title="Open files", text="Connections and files, as a share of the limit.", unit="percentunit", width=6,
              series={"process_open_fds / process_max_fds": "{{instance}}"}),
        Panel(title="Restarts of tasks", text="Crashes of background tasks in the last hour.", unit="short", width=6,
              series={"sum by (task) (increase(background_task_restarts_total[1h]))": "{{task}}"}),
    ),
)  # fmt: skip

ROWS_OF_PANELS = (OVERVIEW, STAGES, LOAD, DRIFT, TRUTH, REGISTRY, LOG, GPU, PROCESS)
