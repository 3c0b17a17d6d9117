"""Where compiled kernels are kept between processes."""

import hashlib
import os
from pathlib import Path


def cache_kernels(directory: Path) -> None:
    """Keep compiled kernels under `directory`, apart for each version of their source.

    Numba recompiles a function when its own file changes, and not when a function that it calls does: with a cache that
    outlives an upgrade, old transforms would be served. So the path holds a digest of the whole package. A directory
    that the environment already names is used in the place of `directory`.

    Must be called before numba is imported, in this process or in the parent that starts it.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    version = digest.hexdigest()[:16]
    chosen = Path(os.environ.get("NUMBA_CACHE_DIR") or directory)
    if chosen.name != version:
        os.environ["NUMBA_CACHE_DIR"] = str(chosen.resolve() / version)
