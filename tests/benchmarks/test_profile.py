"""The profile: samples by thread and library, and its page with an earlier run beside it."""

from typing import Any

from benchmarks.profile import counted, page

LINES = """\
          python    7     7f01 (/usr/lib/libpython3.11.so.1.0)
          python    7     7f02 (/usr/lib/libpython3.11.so.1.0)
          python    7     7f03 (/site-packages/uvloop/loop.cpython-311-x86_64-linux-gnu.so)
          python    7     7f04 ([unknown])
          python    9     7f05 (/usr/lib/x86_64-linux-gnu/libc.so.6)
 tokio-rt-worker    8 ffffffff ([kernel.kallsyms])
 tokio-rt-worker    8     7f06 (/site-packages/granian/_granian.cpython-311-x86_64-linux-gnu.so)

"""


def report(before: Any = None) -> dict[str, Any]:
    samples = counted(LINES, 7)
    shares = [{"thread": key[0], "library": key[1], "share": count / 7} for key, count in samples.most_common()]
    results = {"requests_per_s": 9000.0, "cpu_us": 140.0, "samples": 7, "generator_cpu": 0.4, "shares": shares}
    return {
        "date": "2026-01-01",
        "machine": "a machine",
        "versions": {"madrone": "1.0.0"},
        "command": "just bench profile",
        "connections": 16,
        "results": results,
        "before": before,
    }


def test_each_sample_belongs_to_a_thread_and_a_library() -> None:
    assert counted(LINES, 7) == {
        ("event loop", "interpreter"): 2,
        ("event loop", "event loop (uvloop, asyncio)"): 1,
        ("event loop", "compiled kernels"): 1,
        ("other threads", "C library"): 1,
        ("Granian's runtime", "kernel of Linux"): 1,
        ("Granian's runtime", "Granian"): 1,
    }


def test_the_page_has_the_time_of_a_request_by_library() -> None:
    assert "| event loop | interpreter | 29% | 40.0 |\n" in page(report())


def test_an_earlier_run_stands_beside_it() -> None:
    earlier = report()
    earlier["results"] = earlier["results"] | {"cpu_us": 210.0, "shares": earlier["results"]["shares"][:1]}
    text = page(report(earlier))
    assert "| event loop | interpreter | 29% | 40.0 | 29% | 60.0 |\n" in text
    assert "| event loop | compiled kernels | 14% | 20.0 | 0% | 0.0 |\n" in text
    assert "before, on 2026-01-01: 9,000 requests/s, 210 µs" in text
