"""Manifests as YAML text that parsers of YAML 1.1 and 1.2 read alike."""

from collections.abc import Iterable
from typing import Any

import yaml

Json = dict[str, Any]

WIDTH = 10_000
"""Longest line, so that no text is folded."""


class Quoted(str):
    """Text that is written in double quotes: parsers differ on what `1e5`, `on` or `0o7` without quotes is."""


class Dumper(yaml.SafeDumper):
    """Writes equal parts of a document each in full, without YAML's anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Whether a part is written anew where it appears again: always."""
        return True


def _quoted(dumper: yaml.SafeDumper, data: Quoted) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(data), style='"')


Dumper.add_representer(Quoted, _quoted)


def written(document: Json, comments: Iterable[str] = ()) -> str:
    """A document as YAML, its keys in their order, with lines of comment above."""
    above = "".join(f"# {line}".rstrip() + "\n" for line in comments)
    return above + yaml.dump(document, Dumper=Dumper, sort_keys=False, width=WIDTH, allow_unicode=True)
