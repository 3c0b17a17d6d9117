"""One report for all benchmarks: its head, tables and targets, and the files it is written to.

    just bench report

A benchmark writes its figures to benchmarks/reports/NAME.json, and its function `page` makes Markdown of them with a
template in benchmarks/pages. `just bench report` writes the Markdown again from the JSON files that are there, so that
a change of words needs no new measurement.
"""

import argparse
import json
import os
import platform
import shlex
import signal
import statistics
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kernels.cache import cache_kernels
from kernels.cpu.backend import processor

REPORTS = Path(__file__).parent / "reports"
PAGES = Path(__file__).parent / "pages"
CACHE = Path(".madrone/bench")
CORES = os.cpu_count() or 1
OWN_COLOUR = "#b5442e"
MIB = 2**20

Report = dict[str, Any]
Page = Callable[[Report], str]
Picture = Callable[[Report], Figure | None]


def parser(description: str | None, *, quick: str | None = None, data: bool = False) -> argparse.ArgumentParser:
    """Command line of a benchmark, with the options that all have.

    Args:
        description: Docstring of the benchmark.
        quick: What --quick does beside sending the report to the cache; None for a benchmark without it.
        data: Whether the benchmark reads the California Housing data.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--cache", type=Path, default=CACHE, help="models, kernels, environments and builds")
    made.add_argument("--reports", type=Path, help="where the report goes")
    if quick is not None:
        made.add_argument("--quick", action="store_true", help=f"{quick}; the report goes to the cache")
    if data:
        made.add_argument("--data", type=Path, help="CSV file with the California Housing columns")
    return made


def begin(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, and use the compiled kernels of the cache, which all benchmarks share."""
    arguments = made.parse_args()
    arguments.cache = arguments.cache.resolve()
    arguments.quick = getattr(arguments, "quick", False)
    arguments.reports = arguments.reports or (arguments.cache / "reports" if arguments.quick else REPORTS)
    cache_kernels(arguments.cache / "kernels")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers and engines that were started are stopped first
    return arguments


def context(name: str, *packages: str) -> Report:
    """Date, machine, versions and command of a run."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{processor()}, {CORES} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "command": " ".join(["just bench", name, shlex.join(sys.argv[1:])]).strip(),
    }


def where(report: Report) -> str:
    """Date, machine and Python of a run, as its page begins."""
    python = f"Python {report['python']}" if "python" in report else None
    return ", ".join(part for part in (report.get("date"), report["machine"], python) if part)


def save(
    name: str, report: Report, page: Page, directory: Path, pictures: dict[str, Picture] | None = None, *,
    quiet: bool = False,
) -> None:  # fmt: skip
    """Write the figures, their page, and pictures by file name; print the page unless `quiet`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    (directory / f"{name}.md").write_text(page(report))
    for file, picture in (pictures or {}).items():
        drawing = picture(report)
        if drawing is not None:
            drawing.savefig(directory / f"{file}.png", dpi=130)
    if not quiet:
        print(page(report))


class Target(NamedTuple):
    """A goal, the value measured for it, and whether it was reached; None where nothing was measured."""

    text: str
    seen: str
    held: bool | None

    def line(self) -> str:
        """The target as an item of a list."""
        verdict = {True: "Held.", False: "Missed.", None: "Not measured."}[self.held]
        return f"- {self.text}: {self.seen + '. ' if self.seen else ''}{verdict}"


def at_least(text: str, value: float | None, least: float, form: str) -> Target:
    return Target(text, "" if value is None else form.format(value), None if value is None else value >= least)


def at_most(text: str, value: float | None, most: float, form: str) -> Target:
    return Target(text, "" if value is None else form.format(value), None if value is None else value <= most)


def render(name: str, report: Report, **more: Any) -> str:
    """The report in Markdown, from the template pages/NAME.md.j2, the report's figures, and further values."""
    environment = Environment(
        loader=FileSystemLoader(PAGES), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= FILTERS
    given = report | {"where": where(report), "MIB": MIB} | more
    return environment.get_template(f"{name}.md.j2").render(given).rstrip() + "\n"


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, and first and third quartile as `low` and `high`."""
    values = list(values)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high}


def ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """Median of the ratios within each round."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def number(value: float, digits: int) -> str:
    """A value rounded to so many digits, without an exponent."""
    return f"{float(f'{value:.{digits}g}'):.12g}" if abs(value) >= 1e-4 else "0"


def figure(value: dict[str, float]) -> str:
    """A `spread` as its median ± half the distance between the quartiles."""
    return f"{number(value['median'], 3)} ± {number((value['high'] - value['low']) / 2, 1)}"


def middle(rounds: Iterable[dict[str, float]], key: str) -> float:
    """Median of a figure over the rounds."""
    return statistics.median(one[key] for one in rounds)


def deviation(values: Iterable[float]) -> str:
    """Mean and standard deviation."""
    values = [*values]
    deviates = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviates}"


FILTERS: dict[str, Callable[..., Any]] = {
    "f": format, "figure": figure, "number": number, "middle": middle, "deviation": deviation,
    "median": statistics.median, "mean": statistics.mean,
    "listed": lambda versions: ", ".join(f"{package} {number}" for package, number in versions.items()),
    "tail": lambda rounds: statistics.median(p99 / p50 for p50, p99 in rounds),
}  # fmt: skip
"""Filters of the templates; `tail` is the median ratio of the 0.99 quantile to the median."""


def panels(
    report: Report, title: str, size: tuple[float, float], rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """An empty drawing with its title, and its axes in reading order."""
    drawing = Figure(figsize=size, layout="constrained")
    drawing.suptitle(f"{title}\n{report['machine']}; {report['date']}", fontsize=10)
    made: list[Axes] = [*drawing.subplots(rows, columns, squeeze=False).flat]
    for axes in made:
        axes.grid(color="#e2e2e2", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return drawing, made


def main() -> None:
    for path in sorted(REPORTS.glob("*.json")):
        page: Page = import_module(f"benchmarks.{path.stem}").page
        path.with_suffix(".md").write_text(page(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
