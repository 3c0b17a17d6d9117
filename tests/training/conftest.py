"""A fixture of all tests of training."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread() -> Iterator[None]:
    """BLAS computes in one thread: for matrices as small as the tests', more threads mostly wait for each other."""
    with threadpool_limits(1, user_api="blas"):
        yield
