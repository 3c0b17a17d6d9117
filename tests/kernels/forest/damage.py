"""Damage model texts in every way that a disk or a person may, and see that each is refused or predicts.

Run by test_model_text.py in a process of its own: what goes wrong here is that LightGBM ends the process. Reads the
texts, a JSON object by kind, from standard input; says on standard output which damage it is at, and last `done`. The
argument N takes every Nth damage only.
"""

import json
import re
import sys
from collections.abc import Iterator
from itertools import islice

import numpy as np

import tests.kernels.bare  # noqa: F401
from kernels.forest.forest import ForestError, load_forest

END = "end of trees"
OLD_END = "\nfeature importances:"
NUMBER = re.compile(r"[-+.\w]+")
INSTEAD = ("", "x", "-1", "0", "7", "1e9", "nan", "inf", "1.5", "99999999999", "1_0", "\u0663", "-", "1 1")


def damages(text: str) -> Iterator[tuple[str, str]]:
    """(what is done, the damaged text)."""
    end = text.index(END if END in text else OLD_END)
    for length in range(0, end + len(END), 23):
        yield f"cut at {length}", text[:length]
    for start in range(0, end, 101):
        yield f"a hole at {start}", text[:start] + text[start + 9 :]
        yield f"zeros at {start}", text[:start] + "\0" * 9 + text[start + 9 :]
        yield f"twice at {start}", text[: start + 9] + text[start:]
    lines = text[:end].split("\n")
    for index, line in enumerate(lines):
        for what, changed in _damaged_lines(line):
            yield f"line {index}: {what}", "\n".join(lines[:index] + changed + lines[index + 1 :]) + text[end:]
            sizes = _sizes(lines[:index] + changed + lines[index + 1 :])
            yield f"line {index}: {what}, sizes mended", "\n".join(sizes) + text[end:]


def _damaged_lines(line: str) -> Iterator[tuple[str, list[str]]]:
    yield f"{line[:30]!r} left out", []
    yield f"{line[:30]!r} twice", [line, line]
    key, separator, value = line.partition("=")
    if not separator:
        return
    yield f"{key} renamed", [f"{key}_{separator}{value}"]
    found = list(NUMBER.finditer(value))
    for number in {0, len(found) // 2, len(found) - 1} if found else ():
        start, stop = found[number].span()
        for instead in INSTEAD:
            yield f"{key}[{number}] is {instead!r}", [f"{key}={value[:start]}{instead}{value[stop:]}"]
    yield f"{key} emptied", [f"{key}="]
    yield f"{key} one longer", [f"{line} 1"]


def _sizes(lines: list[str]) -> list[str]:
    """The lines with a header that counts the trees' bytes as they are now."""
    starts = [index for index, line in enumerate(lines) if line.startswith("Tree=")]
    sizes = [
        len("\n".join(lines[start:stop]).encode()) + (stop < len(lines))
        for start, stop in zip(starts, [*starts[1:], len(lines)], strict=False)
    ]
    return [f"tree_sizes={' '.join(map(str, sizes))}" if line.startswith("tree_sizes=") else line for line in lines]


def main() -> None:
    rows = np.random.default_rng(1).normal(size=(5, 3))
    rows[1] = np.nan
    rows[2:, 2] = 1, 2, 40
    stride = int(sys.argv[1])
    for kind, text in json.load(sys.stdin).items():
        load_forest(text).predict(rows)
        for what, damaged in islice(damages(text), 0, None, stride):
            print(f"{kind}: {what}", flush=True)
            try:
                forest = load_forest(damaged)
            except ForestError as error:
                # Of a tree LightGBM may raise this or end the process, as its threads happen to run.
                if re.search("Check failed|Tree model", str(error)):
                    raise
                continue
            if forest.n_features == rows.shape[1]:
                forest.predict(rows)
    print("done")


if __name__ == "__main__":
    main()
