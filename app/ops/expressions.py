"""The metrics in PromQL expressions: their names, and other names and selectors for them."""

import re
from collections.abc import Callable

TOKENS = re.compile(
    r"""
    "(?:[^"\\]|\\.)*"                                                             # a string
    | \[[^\]]*\]                                                                  # a range
    | \b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)             # names of labels
    | [A-Za-z_]\w*\s*(?=\()                                                       # a function
    | \$\w+ | \d[\w.]*                                                            # a variable, a number, a duration
    | (?P<name>[A-Za-z_:][\w:]*) (?:\{(?P<labels>(?:"(?:[^"\\]|\\.)*"|[^"}])*)\})?  # a metric, or a word of PromQL
    """,
    re.VERBOSE,
)

BINARY = frozenset(("and", "or", "unless", "bool", "offset", "group_left", "group_right"))
AGGREGATIONS = frozenset(("sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile", "stddev", "group"))
WORDS = BINARY | AGGREGATIONS
"""Words of PromQL that stand where a metric could, with no parenthesis behind them."""

SHARED = ("process_", "python_")
"""Prefixes of the families that every Python program has, which METRICS_PREFIX does not rename."""


def metric_names(expression: str) -> set[str]:
    """Names of the metrics that an expression reads, such as `up` and those of recording rules."""
    return {found["name"] for found in TOKENS.finditer(expression) if found["name"] and found["name"] not in WORDS}


def rewritten(expression: str, prefix: str = "", selector: str = "") -> str:
    """An expression that reads the metrics of a service with METRICS_PREFIX, of selected instances only.

    Args:
        expression: PromQL.
        prefix: Prefix of the service's own families.
        selector: Matchers that are added to those of each metric.
    """

    def replace(found: re.Match[str]) -> str:
        name, labels = found["name"], found["labels"]
        if not name or name in WORDS:
            return found[0]
        matchers = ",".join(part for part in (labels, selector) if part)
        return f"{prefixed(name, prefix)}{{{matchers}}}" if matchers else prefixed(name, prefix)

    rewrite: Callable[[re.Match[str]], str] = replace
    return TOKENS.sub(rewrite, expression)


def prefixed(name: str, prefix: str) -> str:
    """Name of a family under METRICS_PREFIX. Families of others and of recording rules keep theirs."""
    return name if name == "up" or ":" in name or name.startswith(SHARED) else prefix + name
