"""The rules that keep the house in order: which folder may import which, and how large a file may grow."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from tests.support import ROOT

MAX_LINES = 300
MAX_ARGUMENTS = 9

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for top in ("app", "kernels", "benchmarks")
    for path in sorted((ROOT / top).rglob("*.py"))
}


@cache
def statements(name: str) -> list[ast.stmt]:
    """All statements of a module, those inside others as well."""
    found: list[ast.stmt] = []
    blocks: list[ast.AST] = [ast.parse(MODULES[name].read_text())]
    while blocks:
        block = blocks.pop()
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            inside = getattr(block, part, [])
            if isinstance(inside, list):  # the parts of an expression of this name are none
                blocks += inside
                found += [node for node in inside if isinstance(node, ast.stmt)]
    return found


@cache
def imports(name: str) -> list[str]:
    """Everything that a module imports anywhere in it, as dotted names."""
    names: list[str] = []
    for node in statements(name):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def inside(folder: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name == folder or name.startswith(f"{folder}.")]


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        *[("kernels", other) for other in ("app", "benchmarks", "litestar", "mlflow", "msgspec.json")],
        *[("app", other) for other in ("benchmarks", "tests")],
        *[
            (f"app.{part}", "litestar")
            for part in (
                *(
                    "calibration",
                    "codecs",
                    "drift",
                    "errors",
                    "models",
                    "outcomes",
                    "prediction_log",
                    "replay",
                    "score",
                    "serving",
                    "telemetry",
                ),
            )
        ],
        *[("app.telemetry", f"app.{part}") for part in ("models", "serving", "predict", "routes")],
        ("app.telemetry", "app.prediction_log"),
        *[("app.drift", f"app.{part}") for part in ("models", "serving", "predict", "routes", "telemetry", "training")],
        ("app.drift", "app.prediction_log"),
        *[("app.prediction_log", f"app.{part}") for part in ("models", "serving", "predict", "routes")],
        *[("app.outcomes", f"app.{part}") for part in ("serving", "predict", "routes", "replay")],
        *[("app.replay", f"app.{part}") for part in ("serving", "predict", "routes")],
        *[("app.score", f"app.{part}") for part in ("serving", "routes", "telemetry")],
        *[("app.calibration", f"app.{part}") for part in ("serving", "predict", "routes", "replay")],
        *[("app.udf", f"app.{part}") for part in ("serving", "routes", "telemetry", "commands")],
        *[("app.workers", f"app.{part}") for part in ("routes", "commands", "console", "protocols", "ops")],
        *[(f"app.{part}", "app.workers") for part in ("codecs", "models", "drift", "prediction_log", "telemetry")],
        *[("app.models", f"app.{part}") for part in ("calibration", "score", "udf")],
        *[(f"app.{part}", "app.outcomes") for part in ("codecs", "models", "telemetry", "prediction_log", "predict")],
        *[("app.codecs", f"app.{part}") for part in ("models", "serving", "predict", "routes", "telemetry")],
        *[("app.models", f"app.{part}") for part in ("serving", "predict", "routes")],
        *[("app.ops", f"app.{part}") for part in ("models", "serving", "predict", "routes", "telemetry")],
        ("app.ops", "litestar"),
        *[("app.madrone.client", other) for other in ("app", "kernels", "litestar")],
        *[("app.madrone.ray", other) for other in ("litestar", "mlflow")],
        *[(f"app.{part}", "app.protocols") for part in ("codecs", "models", "predict", "serving", "telemetry")],
        ("app.predict", "app.routes"),
        *[
            (f"kernels.{part}", f"kernels.{other}")
            for part in ("plan", "forest")
            for other in ("cpu", "cuda", "engine")
        ],
        *[("kernels.plan", "kernels.forest"), ("kernels.forest", "kernels.plan")],
        *[("kernels.cpu", "kernels.cuda"), ("kernels.cuda", "kernels.cpu")],
    ],
)
def test_no_folder_imports_one_above_it(folder: str, forbidden: str) -> None:
    arrows = {name: inside(forbidden, imports(name)) for name in inside(folder, MODULES)}
    assert arrows, f"no folder {folder}"
    assert {name: found for name, found in arrows.items() if found} == {}


def test_only_the_command_imports_what_loads_python_objects() -> None:
    arrows = {name: inside("app.models.convert", imports(name)) for name in MODULES}
    users = {name for name, found in arrows.items() if found} - set(inside("app.models.convert", MODULES))
    assert users == {"app.commands.convert"}


def test_no_module_is_longer_than_300_lines() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_constructor_outside_kernels_takes_more_than_nine_arguments() -> None:
    long: dict[str, int] = {}
    for name in inside("app", MODULES):
        for node in statements(name):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                arguments = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
                if arguments > MAX_ARGUMENTS:
                    long[f"{name}:{node.lineno}"] = arguments
    assert long == {}


def test_no_two_modules_of_a_folder_differ_by_a_suffix_only() -> None:
    folders: dict[Path, list[str]] = {}
    for path in MODULES.values():
        folders.setdefault(path.parent, []).append(path.stem)
    pairs = [
        f"{folder.relative_to(ROOT)}: {short}, {long}"
        for folder, names in folders.items()
        for short in names
        for long in names
        if long in (f"{short}s", f"{short}es") or long.startswith(f"{short}_")
    ]
    assert pairs == []


def test_no_module_uses_a_private_name_of_another() -> None:
    private = {
        name: [
            full
            for full in imports(name)
            if full.startswith(("app.", "kernels.")) and "._" in full.replace(".__version__", "")
        ]
        for name in MODULES
    }
    assert {name: found for name, found in private.items() if found} == {}
