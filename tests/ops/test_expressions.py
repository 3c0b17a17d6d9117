"""Names of metrics in PromQL, which are read and rewritten without a parser."""

import pytest

from app.ops.expressions import metric_names, rewritten

CASES = [
    ("up", {"up"}),
    ("rate(a_total[5m])", {"a_total"}),
    ('sum by (job, le) (rate(a_bucket{le="+Inf",x=~"b{2}|c\\"d"}[$__rate_interval] offset 1h))', {"a_bucket"}),
    ("max(a) by (b) / on (c) group_left (d) e", {"a", "e"}),
    ("a and on () b unless c or vector(0)", {"a", "b", "c"}),
    ("a > bool 1e3 + 5m", {"a"}),
    ('topk by (x) (3, rule:of:a) * ignoring (y) group_left sum by (z) (a{b!~""})', {"rule:of:a", "a"}),
    ("clamp_min (a, 0.5) - scalar (b)", {"a", "b"}),
]


@pytest.mark.parametrize(("expression", "names"), CASES)
def test_the_metrics_of_an_expression_are_found(expression: str, names: set[str]) -> None:
    assert metric_names(expression) == names


def test_a_prefix_and_a_selector_come_to_every_metric_of_ours() -> None:
    expression = 'sum by (a) (rate(b{c="d{e}"}[5m])) / on (a) group_left sum(f) and up == 1 or process_x > madrone:y'
    assert rewritten(expression, "p_") == (
        'sum by (a) (rate(p_b{c="d{e}"}[5m])) / on (a) group_left sum(p_f) and up == 1 or process_x > madrone:y'
    )
    assert rewritten(expression, "p_", 'job="j"') == (
        'sum by (a) (rate(p_b{c="d{e}",job="j"}[5m])) / on (a) group_left sum(p_f{job="j"}) and up{job="j"} == 1'
        ' or process_x{job="j"} > madrone:y{job="j"}'
    )


def test_without_either_an_expression_stays_as_it_is() -> None:
    for expression, _ in CASES:
        assert rewritten(expression) == expression
