"""The directory in which compiled kernels are kept between processes."""

import hashlib
import os
import sys
import tempfile
from functools import cache
from pathlib import Path


@cache
def kernels_version() -> str:
    """Digest of all source files of this package and its sub-packages, as they were when this process first asked."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def cache_kernels(directory: Path) -> None:
    """Keep compiled kernels below `directory`, in a sub-directory for each version of their source.

    Numba recompiles a function when its own file changes, but not when a function that it calls does. With a cache that
    outlives an upgrade, old transforms would be served, so the path holds `kernels_version()`. NUMBA_CACHE_DIR takes
    the place of `directory` where it is set. A directory that cannot be written is replaced by a temporary one.

    Must be called before the kernels are imported, in this process or in the parent that starts it.
    """
    chosen = Path(os.environ.get("NUMBA_CACHE_DIR") or directory)
    if chosen.name != kernels_version():
        chosen = chosen.resolve() / kernels_version()
        if not _writable(chosen):
            # Otherwise numba would write beside the source, without a version in the path, or refuse to be imported.
            chosen = Path(tempfile.mkdtemp(prefix="madrone-kernels-"), kernels_version())
        os.environ["NUMBA_CACHE_DIR"] = str(chosen)
        if (config := sys.modules.get("numba.core.config")) is not None:  # it has read the variable already
            config.CACHE_DIR = str(chosen)  # pyright: ignore[reportAttributeAccessIssue]


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False
