"""Targets and page of `just bench swap`."""

from typing import Any

from benchmarks.report import Report, Target, at_most, render

MOST_TIMES_P99 = 2.0
MOST_GROWTH = 0.05


def targets(results: dict[str, Any]) -> list[Target]:
    """Each target with its figure; missed with fewer swaps than were asked for."""
    verdicts, growth, memory, asked = (results[key] for key in ("verdicts", "growth", "memory", "asked"))
    complete = results["swaps_under_load"] == asked["swaps"]
    right = results["requests"] == verdicts["right"]
    seen = (
        f"{results['requests']} requests and {results['swaps_under_load']} of {asked['swaps']} swaps under load, "
        f"{verdicts['wrong_status']} answers with another status than 200, {verdicts['wrong_prediction']} with a "
        f"prediction that is not that of the version they name, {verdicts['dropped']} dropped"
    )
    growing = Target(f"Memory within {MOST_GROWTH:.0%}", "there were too few swaps", None)
    if growth is not None:
        made = memory[-1]["swaps"]
        text = f"{growth:+.1%} from {memory[0]['swaps']} to {made} of {asked['memory_swaps']} swaps"
        held = abs(growth) <= MOST_GROWTH and made == asked["memory_swaps"]
        growing = growing._replace(seen=text, held=held)
    return [
        Target("No wrong answer", seen, right and complete),
        at_most(
            f"p99 within {MOST_TIMES_P99:g} times", results["p99_ratio"], MOST_TIMES_P99, "{:.2f} times during swaps"
        ),
        growing,
    ]


def page(report: Report) -> str:
    return render("swap", report, targets=targets(report))
