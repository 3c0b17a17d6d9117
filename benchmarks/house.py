"""Figures of the code: sizes of files and functions, modules by folder, imports between folders, and lines.

    just bench house [DIRECTORY ...]

Prints a column for each checkout, by default this one, so that two commits can be compared:

    git worktree add ../before HEAD~10 && just bench house ../before .
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

LARGEST_FILE = 300
LAYERS = ("app", "kernels")
AREAS = (*LAYERS, "tests", "benchmarks")


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def modules(root: Path, *areas: str) -> list[Path]:
    return sorted(path for area in areas for path in (root / area).rglob("*.py"))


def function_lengths(paths: list[Path]) -> list[int]:
    """Lines of every function, its decorators and docstring included, and those of the functions within it."""
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def imports(path: Path) -> Iterator[str]:
    """Names of the modules that a module imports, and of what it imports from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def arrows(root: Path) -> set[tuple[str, str]]:
    """Pairs of folders of app and kernels, the first of which imports from the second."""
    found: set[tuple[str, str]] = set()
    for path in modules(root, *LAYERS):
        for name in imports(path):
            parts = name.split(".")
            while len(parts) > 1 and not (root / Path(*parts)).is_dir():
                parts.pop()
            if parts[0] in LAYERS:
                found.add((str(path.parent.relative_to(root)), "/".join(parts)))
    return {(one, other) for one, other in found if one != other}


def figures(root: Path) -> dict[str, object]:
    """Every figure of a checkout, by its name."""
    own = modules(root, *LAYERS)
    cuts = quantiles(function_lengths(own), n=20)
    counts = {area: sum(map(lines, modules(root, area))) for area in AREAS}
    folders = Counter(str(path.parent.relative_to(root)) for path in own)
    layers = sum(counts[area] for area in LAYERS)
    return {
        f"files over {LARGEST_FILE} lines": sum(lines(path) > LARGEST_FILE for path in own),
        "function length, median and 95th percentile": f"{cuts[9]:.0f} and {cuts[18]:.0f}",
        "imports between folders": len(arrows(root)),
        **{f"lines of {area}": f"{count:,}" for area, count in counts.items()},
        "benchmarks to app and kernels": f"{counts['benchmarks'] / layers:.1%}",
        "bytes of README.md": f"{(root / 'README.md').stat().st_size:,}",
        "modules": len(own),
        **{f"modules in {name}": count for name, count in sorted(folders.items())},
    }


def main() -> None:
    roots = [Path(name).resolve() for name in sys.argv[1:] or ["."]]
    found = [figures(root) for root in roots]
    names = dict.fromkeys(name for one in found for name in one)
    rows = [["figure", *(root.name for root in roots)], ["---"] * (1 + len(roots))]
    rows += [[name, *(str(one.get(name, "")) for one in found)] for name in names]
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    main()
