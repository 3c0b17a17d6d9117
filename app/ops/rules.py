"""Prometheus recording rules and alerts."""

import math
from typing import Any, Literal

import msgspec
import yaml

from app.config.settings import Settings
from app.drift.limits import LEAST_ROWS, LEAST_SHARE, MAJOR
from app.ops.expressions import rewritten

SECTION = "When something is wrong"
RUNBOOK = f"Section '{SECTION}' of app/README.md, which is installed with Madrone."

BY = "namespace, job"
"""Labels of one deployment, over whose instances alerts sum. Without Kubernetes there is no namespace."""

MODEL = "model_name, model_version"
SHOWN = "{{ $labels.model_name }} {{ $labels.model_version }}"
"""Labels of a version of a model, and how it is shown."""

NAMED = "(/.model.)?"
"""Part of an endpoint that stands for a model's name, whose braces are dots here."""

PREDICTION_ENDPOINTS = (
    f"/predict{NAMED}(/batch|/bulk|/explain|/curve)?|/invocations{NAMED}|/v1/.+:predict|/v2/.+/infer|/.+/ModelInfer"
)
"""Regular expression of the endpoints of the prediction routes."""

PREDICTIONS = f'endpoint=~"{PREDICTION_ENDPOINTS}"'
BULK = f'endpoint!~"/predict{NAMED}/bulk"'
"""Matchers of the prediction routes, and of those whose requests have few rows."""

MOST_ERRORS = 0.01
"""Share of requests that may fail, and that may be refused."""

LEAST_ROLLOUT_S = 600
"""Time beyond MODEL_CACHE_TTL for which a fleet may serve two versions: to fetch, build and check one takes time."""

LEAST_STALE_S = 900
"""Least time without an answer of the registry that is worth an alert."""

WIDTH = 10_000
"""Longest line: an expression is easier to search and to change in one."""


class Recording(msgspec.Struct, frozen=True):
    """A series that Prometheus computes from others.

    Attributes:
        name: Its name, `madrone:` with what it is and over which time.
        expression: PromQL.
    """

    name: str
    expression: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that somebody should know of.

    Attributes:
        name: Its name.
        expression: PromQL that gives a series for each place where it holds.
        hold: Time for which it must hold, as Prometheus writes it.
        severity: Whether somebody has to come at once.
        summary: One sentence with the place.
        description: What it means.
        first: What to look at first.
    """

    name: str
    expression: str
    hold: str
    severity: Literal["critical", "warning", "info"]
    summary: str
    description: str
    first: str


def recordings() -> list[Recording]:
    """Series that alerts read, and the population stability index (PSI) over all instances.

    PSI is the sum over bins of (p - q) ln(p / q), where p is the share of the rows of the last hour and q that of the
    reference. That of several instances cannot be had from theirs, only from the sums of their counts.
    """
    bins = f"{BY}, {MODEL}, feature"
    counts = "increase(feature_bin_total[1h])"
    now = f"clamp_min(madrone:feature_bin_share:increase1h, {LEAST_SHARE})"
    reference = f"clamp_min(max by ({bins}, bin) (feature_bin_reference_share), {LEAST_SHARE})"
    duration = f"api_request_duration_seconds_bucket{{{PREDICTIONS},{BULK}}}"
    return [
        Recording("madrone:requests:rate5m", f"sum by ({BY}) (rate(api_requests_total{{{PREDICTIONS}}}[5m]))"),
        Recording(
            "madrone:request_errors:ratio_rate5m",
            f'sum by ({BY}) (rate(api_requests_total{{{PREDICTIONS},status_code=~"5.."}}[5m]))'
            " / madrone:requests:rate5m",
        ),
        Recording(
            "madrone:requests_overloaded:ratio_rate5m",
            f'sum by ({BY}) (rate(errors_total{{error_type="overloaded"}}[5m])) / madrone:requests:rate5m',
        ),
        Recording(
            "madrone:request_duration_seconds:p99_5m",
            f"histogram_quantile(0.99, sum by ({BY}, le) (rate({duration}[5m])))",
        ),
        Recording(
            "madrone:feature_bin_share:increase1h",
            f"sum by ({bins}, bin) ({counts}) / on ({bins}) group_left () sum by ({bins}) ({counts})",
        ),
        Recording(
            "madrone:feature_psi:increase1h",
            f"sum by ({bins}) (({now} - {reference}) * ln({now} / {reference})) and on ({BY}, {MODEL})"
            f" sum by ({BY}, {MODEL}) (increase(feature_rows_total[1h])) >= {LEAST_ROWS}",
        ),
    ]  # fmt: skip


def alerts(settings: Settings) -> list[Alert]:
    """All alerts.

    Args:
        settings: Those of the service: MODEL_CACHE_TTL and LONGEST_WAIT are limits.
    """
    stale = max(LEAST_STALE_S, 3 * settings.model_cache_ttl)
    rollout = math.ceil((settings.model_cache_ttl + LEAST_ROLLOUT_S) / 60)
    versions = f"count by ({BY}, model_name, model_version, digest) (model_info)"
    return [
        Alert(
            name="MadroneNotReady",
            expression="service_status == 2 or (up == 0 and on (job, instance) last_over_time(service_status[1h]))",
            hold="2m",
            severity="critical",
            summary="{{ $labels.instance }} of {{ $labels.job }} answers no predictions",
            description="It has no model in service, or Prometheus cannot reach it.",
            first="/health, which names the reason; if it does not answer either, the log of the process.",
        ),
        Alert(
            name="MadroneModelMissing",
            expression="model_status == 0 unless on (job, instance) service_status == 2",
            hold="5m",
            severity="warning",
            summary="{{ $labels.instance }} of {{ $labels.job }} answers no predictions of {{ $labels.model_name }}",
            description="No version of this model is in service there; other models answer.",
            first="/health/model with the model's name, which names the reason.",
        ),
        Alert(
            name="MadroneErrors",
            expression=f"madrone:request_errors:ratio_rate5m > {MOST_ERRORS}",
            hold="5m",
            severity="critical",
            summary="{{ $value | humanizePercentage }} of the predictions of {{ $labels.job }} fail",
            description=f"More than {MOST_ERRORS:.0%} of the prediction requests got a status of 500 or more.",
            first="errors_total by error_type, then the log lines of that kind.",
        ),
        Alert(
            name="MadroneSlow",
            expression=f"madrone:request_duration_seconds:p99_5m > {settings.longest_wait:g}",
            hold="10m",
            severity="warning",
            summary="p99 of the predictions of {{ $labels.job }} is {{ $value | humanizeDuration }}",
            description=f"It is above LONGEST_WAIT ({settings.longest_wait:g} s); /predict/bulk is not counted.",
            first="request_stage_duration_seconds, which says where the time goes, and event_loop_lag_seconds.",
        ),
        Alert(
            name="MadroneModelStale",
            expression=f"model_stale == 1 or model_age_seconds > {stale:g}",
            hold="15m",
            severity="warning",
            summary="{{ $labels.instance }} of {{ $labels.job }} does not know the newest {{ $labels.model_name }}",
            description="The registry does not answer; predictions go on with the model that is loaded.",
            first="last_refresh in /health/model, with ADMIN_API_KEY for the words of the registry.",
        ),
        Alert(
            name="MadroneAliasMissing",
            expression="model_alias_missing == 1",
            hold="5m",
            severity="warning",
            summary="No version of {{ $labels.model_name }} has the MODEL_ALIAS of {{ $labels.job }}",
            description="The model in service stays, and a restart finds none.",
            first="last_refresh in /health/model, which names the aliases that exist.",
        ),
        Alert(
            name="MadroneMixedFleet",
            expression=f"count by ({BY}, model_name) ({versions}) > 1",
            hold=f"{rollout}m",
            severity="warning",
            summary="{{ $labels.job }} serves {{ $value }} versions of {{ $labels.model_name }} at once",
            description="Every instance should have followed within MODEL_CACHE_TTL and the time of a load.",
            first="model_info by instance, then pinned, last_refresh and last_refusal in the /health/model of each.",
        ),
        Alert(
            name="MadroneGpuFallback",
            expression="compute_backend_usable == 0",
            hold="1m",
            severity="warning",
            summary="{{ $labels.instance }} of {{ $labels.job }} computes on the CPU: {{ $labels.device }} failed",
            description="The backend stays off until a restart or another model; predictions are right, and slower.",
            first="disabled_reason in /health/gpu.",
        ),
        Alert(
            name="MadroneFeatureDrift",
            expression=f"max by ({BY}, {MODEL}, feature) (drift_level) >= 2",
            hold="15m",
            severity="warning",
            summary="{{ $labels.feature }} of {{ $labels.job }} is not distributed as in training",
            description=f"PSI against the reference of {SHOWN} is {MAJOR} or more.",
            first="/drift, which shows the bins that moved, and where the feature comes from. Drift is not error.",
        ),
        Alert(
            name="MadronePredictionDrift",
            expression=f"max by ({BY}, {MODEL}, output) (drift_prediction_level) >= 2",
            hold="15m",
            severity="warning",
            summary="Predictions of {{ $labels.job }} are not distributed as in training",
            description=f"PSI against the reference of {SHOWN} is {MAJOR} or more.",
            first="/drift, which shows the features that moved too. Drift is not error: outcome_rmse is.",
        ),
        Alert(
            name="MadroneLogDrops",
            expression=f'sum by ({BY}) (increase(prediction_log_rows_total{{outcome="dropped"}}[10m])) > 0',
            hold="0m",
            severity="warning",
            summary="{{ $labels.job }} lost {{ $value | humanize }} rows of its prediction log in ten minutes",
            description="The queue was full: the database is away, or more rows come than can be written.",
            first="dependencies.prediction_log in /health/detailed, then prediction_log_rows_waiting.",
        ),
        Alert(
            name="MadroneLogFailing",
            expression='dependency_up{dependency="prediction_log"} == 0',
            hold="5m",
            severity="warning",
            summary="{{ $labels.instance }} of {{ $labels.job }} cannot write its prediction log",
            description="Rows wait, and are dropped when there are too many; a durable log then refuses predictions.",
            first="dependencies.prediction_log in /health/detailed.",
        ),
        Alert(
            name="MadroneOverloaded",
            expression=f"madrone:requests_overloaded:ratio_rate5m > {MOST_ERRORS}",
            hold="5m",
            severity="warning",
            summary="{{ $labels.job }} refuses {{ $value | humanizePercentage }} of its requests",
            description="More requests come than can be answered within LONGEST_WAIT.",
            first="requests_refused_total by reason; then more instances.",
        ),
        Alert(
            name="MadroneDegraded",
            expression="service_status == 1",
            hold="30m",
            severity="info",
            summary="{{ $labels.instance }} of {{ $labels.job }} needs attention",
            description="Predictions are answered, and something else has been wrong for half an hour.",
            first="reasons in /health/detailed.",
        ),
    ]  # fmt: skip


def rules(settings: Settings, prefix: str, runbook_url: str | None = None) -> str:
    """All rules as YAML, for `rule_files` of Prometheus.

    Args:
        settings: Those of the service.
        prefix: METRICS_PREFIX of the service.
        runbook_url: Address of a page that says what to do; None leaves it out.
    """
    runbook = {"runbook": RUNBOOK} if runbook_url is None else {"runbook_url": runbook_url}
    recorded: list[Any] = [
        {"record": one.name, "expr": rewritten(one.expression, prefix)} for one in recordings()
    ]  # fmt: skip
    alerting: list[Any] = [
        {
            "alert": alert.name,
            "expr": rewritten(alert.expression, prefix),
            "for": alert.hold,
            "labels": {"severity": alert.severity},
            "annotations": {
                "summary": alert.summary,
                "description": f"{alert.description} Look first at {alert.first}",
                **runbook,
            },
        }
        for alert in alerts(settings)
    ]
    # One group: Prometheus computes its rules in their order, and alerts read what is recorded.
    return yaml.safe_dump({"groups": [{"name": "madrone", "rules": recorded + alerting}]}, sort_keys=False, width=WIDTH)


def alerts_table(settings: Settings) -> str:
    """All alerts as a Markdown table."""
    lines = ["| alert | severity | fires after | if | look first at |", "| --- | --- | --- | --- | --- |"]
    for alert in alerts(settings):
        condition = alert.expression.replace("|", "\\|")
        lines.append(f"| `{alert.name}` | {alert.severity} | {alert.hold} | `{condition}` | {alert.first} |")
    return "\n".join(lines)
