"""How many replicas there are: by requests in flight, and while nodes are drained."""

from app.ops.expressions import rewritten
from app.ops.manifests.plan import Plan, labels
from app.ops.manifests.text import Json, written

IN_FLIGHT = "requests_in_flight"

TARGET = 2
"""Requests in flight of a replica, in the mean. An event loop that is busy for a share r of the time has
r + r² / (2 - 2 r) of them by the formula of Pollaczek and Khinchine, so 2 where r is 0.76."""


def autoscaler(plan: Plan) -> Json:
    """The HorizontalPodAutoscaler's specification."""
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": plan.name},
        "minReplicas": plan.replicas,
        "maxReplicas": plan.max_replicas,
        "metrics": [
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": _metric(plan)},
                    "target": {"type": "AverageValue", "averageValue": str(TARGET)},
                },
            }
        ],
    }


def adapter_rule(plan: Plan) -> str:
    """The rule by which the Prometheus adapter serves the metric to the autoscaler, as YAML.

    A mean over a minute, since requests in flight change by the millisecond.
    """
    rule: Json = {
        "seriesQuery": f'{_metric(plan)}{{namespace!="",pod!=""}}',
        "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
        "metricsQuery": "sum(avg_over_time(<<.Series>>{<<.LabelMatchers>>}[1m])) by (<<.GroupBy>>)",
    }
    return written({"rules": {"custom": [rule]}})


def disruption_budget(plan: Plan) -> Json:
    """The PodDisruptionBudget's specification: nodes are drained one replica after the other."""
    return {"maxUnavailable": 1, "selector": {"matchLabels": labels(plan.name)}}


def _metric(plan: Plan) -> str:
    return rewritten(IN_FLIGHT, plan.settings.metrics_prefix or "")
