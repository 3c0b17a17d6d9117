"""A Grafana dashboard (JSON model of Grafana 11, schema version 41) made of the panels in `panels.py`."""

from typing import Any

import msgspec

from app.ops.expressions import rewritten
from app.ops.panels import ROWS_OF_PANELS, Panel

UID = "madrone"
SCHEMA_VERSION = 41
GRID_COLUMNS = 24

HISTORY_POINTS = 100
"""Columns of a status history. Grafana draws none where there are more than one for two pixels of the panel."""

SELECTED = 'job=~"$job",instance=~"$instance"'
"""Matchers of the variables that every series has. Panels name those of the model where a series has them."""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


def dashboard(prefix: str) -> str:
    """The dashboard as JSON, to be imported or provisioned.

    Args:
        prefix: METRICS_PREFIX of the service.
    """
    panels: list[Json] = []
    top = 0
    for row in ROWS_OF_PANELS:
        panels.append(_row(row.title, len(panels) + 1, top))
        top += 1
        left = height = 0
        for panel in row.panels:
            if left + panel.width > GRID_COLUMNS:
                top, left, height = top + height, 0, 0
            place = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            panels.append(_panel(panel, len(panels) + 1, place, prefix))
            left, height = left + panel.width, max(height, panel.height)
        top += height
    document: Json = {
        "uid": UID,
        "title": "Madrone",
        "description": "LightGBM models in service: load, latency, drift, error. Made by `madrone ops grafana`.",
        "tags": ["madrone", "machine-learning"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": SCHEMA_VERSION,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables(prefix)},
        "annotations": {"list": [_swaps(prefix)]},
        "panels": panels,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _row(title: str, number: int, top: int) -> Json:
    place = {"h": 1, "w": GRID_COLUMNS, "x": 0, "y": top}
    return {"type": "row", "id": number, "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, place: Json, prefix: str) -> Json:
    return {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.text,
        "gridPos": place,
        "datasource": DATASOURCE,
        "targets": [
            _target(panel, index, rewritten(expression, prefix, SELECTED), legend)
            for index, (expression, legend) in enumerate(panel.series.items())
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        **({"transformations": _joined(panel)} if panel.kind == "table" else {}),
        **({"maxDataPoints": HISTORY_POINTS} if panel.kind == "status-history" else {}),
    }


def _target(panel: Panel, index: int, expression: str, legend: str) -> Json:
    now = panel.kind == "table"
    return {
        "refId": chr(ord("A") + index),
        "datasource": DATASOURCE,
        "expr": expression,
        "legendFormat": legend,
        "format": {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series"),
        "instant": now,
        "range": not now,
    }


def _defaults(panel: Panel) -> Json:
    """What all values of a panel have in common: unit, colours, and how lines are drawn."""
    defaults: Json = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in panel.steps]},
    }
    if panel.names:
        named = {value: {"text": text, "color": color} for value, (text, color) in panel.names.items()}
        defaults["mappings"] = [{"type": "value", "options": named}]
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "axisSoftMin": 0,  # R² can be below 0, and is then shown
            "fillOpacity": 30 if panel.stacked else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    if panel.kind in ("table", "status-history"):
        defaults["color"] = {"mode": "thresholds"}
    if panel.kind == "table":
        defaults["custom"] = {"cellOptions": {"type": "color-text"}}
    if panel.top is not None:
        defaults["max"] = panel.top
    return defaults


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        named = "{{" in next(iter(panel.series.values()))
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "name" if named else "value",
        }
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
            "tooltip": {"mode": "single", "yHistogram": True},
            "legend": {"show": False},
            "yAxis": {"axisPlacement": "left", "unit": panel.unit},
        }
    if panel.kind == "table":
        first = next(iter(panel.series.values()))
        return {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": first, "desc": True}]}
    if panel.kind == "status-history":
        return {"showValue": "never", "rowHeight": 0.9, "legend": {"showLegend": False, "displayMode": "list"}}
    return {
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _joined(panel: Panel) -> list[Json]:
    """One row for each value of the label, and a column for each expression."""
    titles = {f"Value #{chr(ord('A') + index)}": title for index, title in enumerate(panel.series.values())}
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": titles}},
    ]


def _variables(prefix: str) -> list[Json]:
    status, info = rewritten("model_status", prefix), rewritten("model_info", prefix, SELECTED)
    job = rewritten("model_status", prefix, 'job=~"$job"')
    named = rewritten("model_info", prefix, f'{SELECTED},model_name=~"$model_name"')
    source = {
        "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "multi": False,
        "includeAll": False,
    }  # fmt: skip
    return [
        source,
        _variable("job", "Job", f"label_values({status}, job)"),
        _variable("instance", "Instance", f"label_values({job}, instance)"),
        _variable("model_name", "Model", f"label_values({info}, model_name)"),
        _variable("model_version", "Model version", f"label_values({named}, model_version)"),
    ]


def _variable(name: str, label: str, query: str) -> Json:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def _swaps(prefix: str) -> Json:
    """Marks on all panels where another version came into service."""
    loaded = rewritten("model_load_duration_seconds", prefix, SELECTED)
    return {
        "name": "Model in service",
        "enable": True,
        "iconColor": "blue",
        "datasource": DATASOURCE,
        "expr": f"{loaded} unless {loaded} offset 1m",
    }
