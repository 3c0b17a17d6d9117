"""Compressed files of joblib: bombs and damage."""

import bz2
import gzip
import lzma
import zlib

import pytest

from app.models.objects.compression import LEAST_BYTES, MAX_RATIO, unpack
from app.models.refusal import ModelRefused
from tests.models.objects.support import FORMATS, fitted

COMPRESS = {"zlib": zlib.compress, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def reason(content: bytes, most: int = 2**30) -> str:
    with pytest.raises(ModelRefused) as caught:
        unpack(content, most)
    return str(caught.value)


@pytest.mark.parametrize("method", COMPRESS)
def test_a_file_is_unpacked_up_to_its_bounds(method: str) -> None:
    assert unpack(COMPRESS[method](bytes(1000)), 1000) == bytes(1000)
    assert reason(COMPRESS[method](bytes(1001)), 1000) == (
        "the model's file unpacks to more than 1000 bytes, and at most 1000 and 200 times the file are read"
    )
    packed = COMPRESS[method](bytes(LEAST_BYTES))
    assert len(unpack(packed, 2**30)) == LEAST_BYTES


@pytest.mark.parametrize("method", COMPRESS)
def test_a_bomb_is_refused_at_its_ratio(method: str) -> None:
    packed = COMPRESS[method](bytes(20 * LEAST_BYTES))
    limit = max(LEAST_BYTES, MAX_RATIO * len(packed))
    assert limit < 20 * LEAST_BYTES
    assert reason(packed).startswith(f"the model's file unpacks to more than {limit} bytes")


@pytest.mark.parametrize("form", ["joblib-zlib", "joblib-gzip", "joblib-bz2", "joblib-lzma", "joblib-xz", "joblib-lz4"])
def test_a_damaged_file_is_refused(form: str) -> None:
    content = FORMATS[form](fitted(n_estimators=1))
    method = form.removeprefix("joblib-")
    for end in (8, 40, len(content) // 2, len(content) - 1):
        assert reason(content[:end]) in (
            f"the model's file is compressed with {method}, and ends too early",
            f"the model's file is compressed with {method}, and damaged",
        )
    middle = len(content) // 2
    broken = content[:middle] + bytes(byte ^ 0x55 for byte in content[middle : middle + 40]) + content[middle + 40 :]
    assert reason(broken).startswith("the model's file")


def test_a_dictionary_that_lzma_would_allocate_is_bounded() -> None:
    content = bytearray(FORMATS["joblib-lzma"](fitted(n_estimators=1)))
    content[1:5] = (2**32 - 1).to_bytes(4, "little")
    assert content.startswith(b"\x5d")
    assert not content.startswith(b"\x5d\x00")  # which joblib does not know either
    content[1:5] = (2**31).to_bytes(4, "little")
    assert reason(bytes(content)) == "the model's file is compressed with lzma, and damaged"


def test_a_file_that_is_not_compressed_is_left_as_it_is() -> None:
    assert unpack(b"\x80\x04N.", 1) == b"\x80\x04N."
