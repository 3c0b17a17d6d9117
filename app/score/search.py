"""The files of a folder or of a pattern, on this machine or in an object store."""

import glob
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from app.score.places import is_file, is_folder, is_remote, objects_below, real

OTHERS = (".", "_")
"""How names begin that are others' notes, such as _SUCCESS, _delta_log and ._a.parquet."""


def is_pattern(path: str) -> bool:
    """Whether a path stands for the files whose names are like it."""
    return bool(_split(path)[1]) and (is_remote(path) or not Path(path).exists())


def root_of(given: str) -> str:
    """The folder of a file, or that of which a folder or a pattern has the files: a pattern's part before its signs."""
    if is_pattern(given):
        return _split(given)[0]
    return given if is_folder(given) else given.rpartition("/")[0] or ("/" if given.startswith("/") else ".")


def below(root: str, path: str) -> PurePath:
    """A file's path from a folder on."""
    return PurePath(path).relative_to(PurePath(root))


def is_within(folder: str, path: str) -> bool:
    """Whether a folder is another one, or below it, whatever links lead there."""
    return f"{real(path).rstrip('/')}/".startswith(f"{real(folder).rstrip('/')}/")


def found(given: str) -> list[str]:
    """The files of a path or pattern, or in a folder and those below it, by path.

    Names that begin as of `OTHERS` are left out, also those of folders, unless the pattern has such a name. A pattern
    with .. after its first sign has no files: their outputs could be anywhere.

    Raises:
        OSError: A folder cannot be read, or the store does not answer.
    """
    if not is_pattern(given):
        if not is_folder(given):
            return [given] if is_file(given) else []
        root, signs = given, ["**"]
    else:
        root, signs = _split(given)
    every = any(sign.startswith(OTHERS) for sign in signs)
    if is_remote(given):
        signs = [sign.replace("[", "[[]") for sign in signs]  # there it is a letter as others
        paths = objects_below(root)
    elif "**" in signs:
        paths = _walked(root, every=every)
    else:
        paths = (path for path in glob.glob(given) if Path(path).is_file())
    parts = {path: below(root, path).parts for path in paths}
    return sorted(
        path
        for path, names in parts.items()
        if ".." not in names
        and _matches(names, signs)
        and (every or not any(name.startswith(OTHERS) for name in names))
    )


def _split(path: str) -> tuple[str, list[str]]:
    """The folder before the first sign of a pattern, and the names from there on; none where there is no sign."""
    names = path.split("/")
    begin, signs = (3, "*?") if is_remote(path) else (0, "*?[")
    first = next((place for place in range(begin, len(names)) if {*signs} & {*names[place]}), len(names))
    return "/".join(names[:first]) or ("/" if path.startswith("/") else "."), [
        name for name in names[first:] if name not in ("", ".")
    ]


def _matches(names: tuple[str, ...], signs: list[str]) -> bool:
    """Whether the names of a path are like those of a pattern, of which ** stands for any number of them."""
    if not signs:
        return not names
    if signs[0] == "**":
        return any(_matches(names[place:], signs[1:]) for place in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], signs[0]) and _matches(names[1:], signs[1:])


def _walked(root: str, *, every: bool) -> Iterator[str]:
    """The files below a folder. A folder to which links lead as well is read once, so that circles of links end."""
    seen, roots = set[str](), [root] if Path(root).is_dir() else []
    while roots:
        links: list[str] = []
        for start in roots:
            for folder, folders, files in os.walk(start, onerror=_fail):
                if (place := os.path.realpath(folder)) in seen:
                    folders.clear()
                    continue
                seen.add(place)
                folders[:] = sorted(name for name in folders if every or not name.startswith(OTHERS))
                links += [path for name in folders if Path(path := os.path.join(folder, name)).is_symlink()]
                yield from (path for name in files if Path(path := os.path.join(folder, name)).is_file())
        roots = links  # they come after all folders that are no links, whose files keep their own paths


def _fail(error: OSError) -> None:
    raise error
