"""The monitor of a service: small and large requests, models that come and go, and references that appear."""

import asyncio
import logging
from pathlib import Path

import msgspec
import numpy as np
import pytest

from app.drift.monitor import INLINE_VALUES, DriftMonitor
from app.drift.report import report
from app.drift.store import ProfileStore
from app.drift.tracker import PENDING_ROWS, Options, WatchedModel
from tests.drift.rows import DIGEST, Clock, model_of, predictions_of, profile_of, rows_of
from tests.support import come_true

ROWS = rows_of(2000)
PROFILE = profile_of(ROWS)


class Slot:
    """The models in service."""

    def __init__(self, *models: WatchedModel) -> None:
        self.models = models

    def __call__(self) -> tuple[WatchedModel, ...]:
        return self.models


def monitor_of(slot: Slot, directory: Path, baseline_rows: int = 0, enabled: bool = True) -> DriftMonitor:
    return DriftMonitor(enabled, slot, Options(3600, baseline_rows, Clock()), ProfileStore(directory))


def counted(monitor: DriftMonitor) -> dict[str, int]:
    return {
        tracker.model.version: -1 if tracker.counts is None else tracker.counts.total().features.rows
        for tracker in monitor.trackers()
    }


async def test_single_rows_are_counted_together_and_at_each_look(tmp_path: Path) -> None:
    model = model_of(PROFILE)
    monitor = monitor_of(Slot(model), tmp_path)
    for index in range(PENDING_ROWS + 3):
        monitor.add_one(model, ROWS[index : index + 1], 1.5)
    (tracker,) = monitor._trackers.values()
    assert tracker.counts is not None
    assert tracker.counts.total().features.rows == PENDING_ROWS
    assert counted(monitor) == {"1": PENDING_ROWS + 3}
    assert tracker.counts.total().prediction.rows == PENDING_ROWS + 3


async def test_requests_of_any_size_are_counted_once(tmp_path: Path) -> None:
    model = model_of(PROFILE)
    monitor = monitor_of(Slot(model), tmp_path)
    large = rows_of(INLINE_VALUES)
    for rows in (ROWS[:0], ROWS[:1], ROWS[:64], ROWS[:65], ROWS, large):
        monitor.add(model, rows, predictions_of(rows))
    await come_true(lambda: counted(monitor) == {"1": 1 + 64 + 65 + 2000 + INLINE_VALUES})
    monitor.close()


async def test_rows_of_a_large_body_are_not_kept(tmp_path: Path) -> None:
    model = model_of(PROFILE)
    monitor = monitor_of(Slot(model), tmp_path)
    rows = ROWS[:3].copy()
    monitor.add(model, rows, predictions_of(rows))
    rows[:] = np.nan
    assert counted(monitor) == {"1": 3}
    assert not monitor.trackers()[0].counts.total().features.missing.any()  # type: ignore[union-attr]


async def test_rows_that_would_wait_without_bound_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.drift.monitor.WAITING_BYTES", 0)
    model = model_of(PROFILE)
    monitor = monitor_of(Slot(model), tmp_path)
    large = rows_of(INLINE_VALUES)
    for _ in range(3):
        monitor.add(model, large, predictions_of(large))
    await come_true(lambda: not monitor._waiting)
    assert counted(monitor) == {"1": INLINE_VALUES}
    monitor.add(model, large, predictions_of(large))
    await come_true(lambda: counted(monitor) == {"1": 2 * INLINE_VALUES})


async def test_models_out_of_service_are_forgotten_and_counted_no_more(tmp_path: Path) -> None:
    old, new = model_of(PROFILE), model_of(PROFILE, "2")
    slot = Slot(old)
    monitor = monitor_of(slot, tmp_path)
    monitor.add_one(old, ROWS[:1], 1.0)
    slot.models = (new, old)
    monitor.add_one(new, ROWS[:1], 1.0)
    monitor.add_one(old, ROWS[:1], 1.0)
    assert counted(monitor) == {"2": 1, "1": 2}
    slot.models = (new,)
    await monitor.tick()
    monitor.add_one(old, ROWS[:1], 1.0)
    assert counted(monitor) == {"2": 1}
    assert len(monitor._trackers) == 1


async def test_a_model_that_is_loaded_again_keeps_its_counts(tmp_path: Path) -> None:
    slot = Slot(model_of(PROFILE))
    monitor = monitor_of(slot, tmp_path)
    monitor.add_one(slot.models[0], ROWS[:1], 1.0)
    slot.models = (model_of(profile_of(ROWS)),)
    monitor.add_one(slot.models[0], ROWS[:1], 1.0)
    assert counted(monitor) == {"1": 2}


async def test_the_first_rows_served_become_the_reference_also_after_a_restart(tmp_path: Path) -> None:
    model = model_of(None)
    monitor = monitor_of(Slot(model), tmp_path, baseline_rows=1000)
    monitor.add(model, ROWS[:999], predictions_of(ROWS[:999]))
    await monitor.tick()
    (tracker,) = monitor.trackers()
    told = report(tracker, 3600)
    assert (told.state, told.reference, told.collected_rows) == ("no reference", None, 999)
    monitor.add(model, ROWS[999:1700], predictions_of(ROWS[999:1700]))
    await monitor.tick()
    monitor.add(model, ROWS[1700:], predictions_of(ROWS[1700:]))
    assert counted(monitor) == {"1": 300}
    restarted = monitor_of(Slot(model), tmp_path, baseline_rows=1000)
    await restarted.tick()
    for each in (monitor, restarted):
        counts = each.trackers()[0].counts
        assert counts is not None
        assert counts.profile == profile_of(ROWS[:1000], "served")


async def test_without_a_baseline_there_is_no_reference(tmp_path: Path) -> None:
    model = model_of(None)
    monitor = monitor_of(Slot(model), tmp_path)
    monitor.add(model, ROWS, predictions_of(ROWS))
    await monitor.tick()
    assert counted(monitor) == {"1": -1}
    assert not ProfileStore(tmp_path).path(DIGEST).exists()


async def test_a_profile_that_appears_takes_the_place_of_the_rows_served(tmp_path: Path) -> None:
    model = model_of(None)
    monitor = monitor_of(Slot(model), tmp_path, baseline_rows=5000)
    monitor.add(model, ROWS, predictions_of(ROWS))
    ProfileStore(tmp_path).write(DIGEST, profile_of(rows_of(700), "profile"))
    await monitor.tick()
    assert counted(monitor) == {"1": 2000}  # the rows that were collected
    assert monitor.trackers()[0].counts.profile.source == "profile"  # type: ignore[union-attr]
    monitor.add(model, ROWS, predictions_of(ROWS))
    await monitor.tick()
    assert counted(monitor) == {"1": 4000}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{}", "is not valid"),
        (b" " * 2**20 + b" ", "is larger than 1048576 bytes"),
        (msgspec.structs.replace(PROFILE, prediction=()).to_json(), "has 0 outputs, and the model has 1"),
    ],
)
async def test_a_bad_profile_on_disk_is_a_warning_and_the_service_goes_on(
    content: bytes, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"{DIGEST}.json").write_bytes(content)
    model = model_of(None)
    monitor = monitor_of(Slot(model), tmp_path)
    with caplog.at_level(logging.WARNING):
        await monitor.tick()
        await monitor.tick()
    (record,) = caplog.records
    assert record.message == "profile cannot be used"
    assert record.__dict__["reason"].startswith(reason)
    assert counted(monitor) == {"1": -1}


async def test_a_profile_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    model = model_of(None)
    monitor = monitor_of(Slot(model), tmp_path / "file", baseline_rows=10)
    monitor.add(model, ROWS, predictions_of(ROWS))
    with caplog.at_level(logging.WARNING):
        await monitor.tick()
        await monitor.tick()
    assert sorted(caplog.messages) == ["profile cannot be used", "profile cannot be written"]
    assert counted(monitor) == {"1": 0}


async def test_it_can_be_switched_off(tmp_path: Path) -> None:
    model = model_of(PROFILE)
    monitor = monitor_of(Slot(model), tmp_path, enabled=False)
    monitor.add_one(model, ROWS[:1], 1.0)
    monitor.add(model, ROWS, predictions_of(ROWS))
    assert not monitor._trackers


async def test_its_task_ticks(tmp_path: Path) -> None:
    ProfileStore(tmp_path).write(DIGEST, PROFILE)
    monitor = monitor_of(Slot(model_of(None)), tmp_path)
    task = asyncio.create_task(monitor.run())
    await come_true(lambda: counted(monitor) == {"1": 0})
    task.cancel()
