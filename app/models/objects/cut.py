"""Stand-in for `kernels.forest.model_text.first_iterations`."""

import re


def first_iterations(text: str, n: int) -> str:
    """Text of the first iterations of a booster."""
    match = re.search(r"^tree_sizes=(.*)$", text, re.MULTILINE)
    per = re.search(r"^num_tree_per_iteration=(\d+)$", text, re.MULTILINE)
    start = text.find("\nTree=0")
    if match is None or per is None or start < 0:
        return text
    sizes = match[1].split()
    kept = sizes[: n * int(per[1])]
    end = start + 1 + sum(map(int, kept))
    tail = start + 1 + sum(map(int, sizes))
    return text[: match.start(1)] + " ".join(kept) + text[match.end(1) : end] + text[tail:]
