"""Where the header, the trees and the rest of a model text are.

LightGBM has written the format in three ways:

- From 2.2.0 on the header has the size of each tree, and the line `end of trees` follows them.
- From 2.0.12 to 2.1 it has the sizes, but there is no such line. The importances of the features follow the trees.
- Before 2.0.12 there are no sizes either, nor a `version`.
"""

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

from kernels.forest.errors import ForestError
from kernels.forest.header import MAX_TREES, Header, bounded, read_header

END_OF_TREES = "end of trees"
IMPORTANCES = "feature importances:"
"""The line after the trees of LightGBM before 2.2.0."""


class Sections(NamedTuple):
    """A model text in sections.

    Attributes:
        text: The whole text, as of `plain`.
        header: Its header.
        bounds: Where each tree starts, and where the last one ends.
    """

    text: str
    header: Header
    bounds: list[int]

    @property
    def n_trees(self) -> int:
        """Trees in all."""
        return len(self.bounds) - 1

    @property
    def head(self) -> str:
        """The lines of the header."""
        return self.text[: self.bounds[0]]

    @property
    def rest(self) -> str:
        """What stands after the trees."""
        return self.text[self.bounds[-1] :]

    def blocks(self) -> Iterator[str]:
        """The lines of each tree.

        Raises:
            ForestError: A tree is not where it should be, or is not ASCII.
        """
        for index, (start, end) in enumerate(pairwise(self.bounds)):
            block = self.text[start:end]
            if not block.startswith(f"Tree={index}\n") or len(block) != end - start or not block.isascii():
                raise ForestError(f"the booster's text is cut or damaged at tree {index} of {self.n_trees}")
            yield block


def plain(text: str) -> str:
    """The text as LightGBM writes it: without a byte-order mark, its lines ended as on Unix.

    A program that copied the text may have added the one and changed the others; sizes of trees are those of lines as
    LightGBM wrote them, so its own parser ends the process at the second tree of a text with lines ended as on Windows.
    A carriage return alone ends a line for LightGBM too.
    """
    text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def divide(text: str) -> Sections:
    """Find the sections of a model text, and check that all trees are there.

    Args:
        text: All of it.

    Raises:
        ForestError: It is not LightGBM's, or incomplete, or its header is damaged.
    """
    text = plain(text)
    if "\0" in text:
        raise ForestError("the booster's text holds a zero byte, where LightGBM stops reading")
    start = text.find("\nTree=") + 1
    end = start or text.find(f"\n{END_OF_TREES}") + 1 or text.find(f"\n{IMPORTANCES}") + 1
    if not text.startswith("tree\n") or not end:
        raise ForestError("the booster's text is not a LightGBM model, or ends before its last tree")
    header = read_header(text[:end])
    # Feature names may be any UTF-8, but they stand before the trees: from there on bytes are characters.
    if header.sizes is not None:
        bounds = list(accumulate(header.sizes, initial=end))
    else:
        bounds = _marked(text, start) if start and not header.version else [end]
    sections = Sections(text, header, bounds)
    count = sections.n_trees
    if start and not count:
        raise ForestError("the booster's header does not count its trees")
    if count % header.outputs:
        raise ForestError(f"the booster has {count} trees, which do not share out among {header.outputs} outputs")
    if not _is_whole(sections):
        # The first tree that is not where it should be raises an error, which says where the text is cut or damaged.
        for _ in sections.blocks():
            pass
        raise ForestError(f"the booster's text does not end after its {count} trees")
    return sections


def first_iterations(text: str, count: int) -> str:
    """The text of a model's first iterations, as for a booster's best iteration.

    What follows the trees stays, the importances of the features with it.

    Args:
        text: All of it.
        count: Iterations to keep, at least 1. All stay where there are no more.

    Raises:
        ForestError: The text is incomplete or damaged.
        ValueError: The count is below 1.
    """
    if count < 1:
        raise ValueError(f"{count} iterations are no model")
    sections = divide(text)
    kept = count * sections.header.outputs
    if kept >= sections.n_trees:
        return sections.text
    head, sizes = sections.head, sections.header.sizes
    if sizes is not None:
        lines = (
            f"tree_sizes={' '.join(map(str, sizes[:kept]))}" if line.startswith("tree_sizes=") else line
            for line in head.split("\n")
        )
        head = "\n".join(lines)
    return head + sections.text[sections.bounds[0] : sections.bounds[kept]] + sections.rest


def _marked(text: str, start: int) -> list[int]:
    """Bounds of the trees of a text that does not count them: each ends at a blank line, or where the next starts."""
    bounds = [start]
    while text.startswith("Tree=", bounds[-1]):
        bounded("trees", len(bounds), MAX_TREES)
        blank = text.find("\n\n", bounds[-1])
        end = blank + 2 if blank >= 0 else len(text)
        while text.startswith("\n", end):
            end += 1
        bounds.append(end)
    return bounds


def _is_whole(sections: Sections) -> bool:
    """Whether what LightGBM writes after the trees stands after the last one."""
    end = sections.bounds[-1]
    if sections.text.startswith(END_OF_TREES, end) or not sections.n_trees:
        return True
    return sections.header.version in ("", "v2") and sections.text[end : end + 99].lstrip("\n").startswith(IMPORTANCES)
