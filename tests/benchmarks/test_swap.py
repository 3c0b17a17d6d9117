"""The benchmark of swaps: its second version, which requests it counts to a swap, and what it says of its targets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from benchmarks.load.version_check import Answers, Verdict
from benchmarks.pages.swap import targets
from benchmarks.swap import FACTOR, Memory, Round, overlapping, summarise, within, write_variation
from kernels.forest.forest import Forest

ASKED = {"asked": {"swaps": 1, "memory_swaps": 200}}
ROUND = Round(quiet=(0.0, 10.0), swaps=[(20.0, 30.0)])


def answers(*spans: tuple[float, float], verdict: Verdict = Verdict.RIGHT) -> Answers:
    sent, answered = np.array(spans).T
    count = len(spans)
    return Answers(sent, answered, np.ones(count, dtype=np.int64), np.full(count, verdict, dtype=np.uint8))


def held(slowest: float = 25.1, worker: float = 100.0, verdict: Verdict = Verdict.RIGHT) -> list[bool | None]:
    memory = [Memory(10, 100.0, 0.0), Memory(200, worker, 0.0)]
    results = summarise(answers((1.0, 1.1), (25.0, slowest), verdict=verdict), [ROUND], memory)
    return [target.held for target in targets(results | ASKED)]


def test_the_variation_predicts_otherwise_with_a_forest_of_the_same_size(tmp_path: Path) -> None:
    bundled, varied = read_artifact(BUNDLED / "model"), read_artifact(write_variation(tmp_path / "model"))
    assert isinstance(bundled.forest, Forest)
    assert isinstance(varied.forest, Forest)
    assert varied.forest.n_trees == bundled.forest.n_trees
    assert varied.features == bundled.features
    row = bundled.sample()
    np.testing.assert_allclose(varied.engine().predict(row), FACTOR * bundled.engine().predict(row), rtol=1e-9)


def test_requests_under_way_in_a_swap_are_counted_to_it() -> None:
    spans = [(19.0, 21.0), (22.0, 23.0), (29.0, 31.0), (19.0, 31.0), (18.0, 19.0), (31.0, 32.0)]
    assert overlapping(answers(*spans), ROUND.swaps).tolist() == [True, True, True, True, False, False]


def test_requests_of_the_quiet_time_are_wholly_in_it() -> None:
    assert within(answers((1.0, 2.0), (-1.0, 1.0), (9.0, 11.0)), ROUND.quiet).tolist() == [True, False, False]


def test_all_targets_hold_when_nothing_happens() -> None:
    assert held() == [True, True, True]


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        *(({"verdict": verdict}, 0) for verdict in Verdict if verdict is not Verdict.RIGHT),
        ({"slowest": 25.21}, 1),
        ({"worker": 105.1}, 2),
        ({"worker": 94.9}, 2),
    ],
)
def test_a_target_that_is_missed_is_said_to_be(changes: dict[str, Any], target: int) -> None:
    assert held(**changes) == [place != target for place in range(3)]


def test_too_few_swaps_hold_no_target() -> None:
    results = summarise(answers((1.0, 1.1), (25.0, 25.1)), [ROUND], [Memory(10, 100.0, 0.0), Memory(50, 100.0, 0.0)])
    found = targets(results | {"asked": {"swaps": 2, "memory_swaps": 200}})
    assert [target.held for target in found] == [False, True, False]
