"""The model card of the model in use: had from the run of its version, once, and within bounds."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from app.config.settings import Settings
from app.models.identity import ModelIdentity
from app.models.process.worker import ModelWorker
from app.models.refusal import ModelRefused
from app.models.registry.card import MOST_PICTURE_BYTES, ModelCards, read_card
from app.models.registry.embedded import BUNDLED
from app.models.registry.source import RegistryUnreachable


class CountingSource(ModelWorker):
    """The registry, which counts how often it is asked for a card, and may be away."""

    asked = 0
    away = False

    def card(self, identity: ModelIdentity, destination: Path) -> Path | None:
        self.asked += 1
        if self.away:
            raise RegistryUnreachable("no answer within 1 s")
        return super().card(identity, destination)


@pytest.fixture
def source(registry_dir: Path) -> CountingSource:
    return CountingSource(Settings(data_dir=registry_dir))


async def test_the_card_comes_from_the_run_and_is_kept(source: CountingSource) -> None:
    (candidate,) = source.look().candidates
    cards = ModelCards(source)
    card = await cards.of(candidate.identity)
    assert card is not None
    assert (card.text.title, card.text.data.unit) == ("California Housing prices", "100,000 USD")
    assert card.pictures == {"importance.png": (BUNDLED / "card" / "importance.png").read_bytes()}
    assert await cards.of(candidate.identity) is card
    assert source.asked == 1


async def test_a_registry_that_is_away_is_asked_again_later(
    source: CountingSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    (candidate,) = source.look().candidates
    cards = ModelCards(source)
    source.away = True
    assert await cards.of(candidate.identity) is None
    source.away = False
    assert await cards.of(candidate.identity) is None
    monkeypatch.setattr("app.models.registry.card.RETRY_S", -1.0)
    cards = ModelCards(source)
    source.away = True
    assert await cards.of(candidate.identity) is None
    source.away = False
    assert await cards.of(candidate.identity) is not None


async def test_a_run_without_a_card_has_none(private_registry_dir: Path) -> None:
    settings = Settings(data_dir=private_registry_dir)
    run = MlflowClient(settings.tracking_uri).create_run("0")
    source = ModelWorker(settings)
    identity = source.version("1").identity
    for run_id in (run.info.run_id, None, "0" * 32):
        other = ModelIdentity(name=identity.name, version="1", run_id=run_id)
        assert await ModelCards(source).of(other) is None


def test_a_card_is_read_within_bounds(tmp_path: Path) -> None:
    shutil.copytree(BUNDLED / "card", tmp_path, dirs_exist_ok=True)
    (tmp_path / "error_map.png").write_bytes(b"<svg>")
    assert read_card(tmp_path).pictures.keys() == {"importance.png"}
    (tmp_path / "error_map.png").write_bytes(b"\x89PNG" + bytes(MOST_PICTURE_BYTES))
    with pytest.raises(ModelRefused, match="at most"):
        read_card(tmp_path)
    (tmp_path / "error_map.png").unlink()
    for content in (b"{", b"[]", b"\xff", b"{}"):
        (tmp_path / "card.json").write_bytes(content)
        with pytest.raises(ModelRefused, match="card is not valid"):
            read_card(tmp_path)
