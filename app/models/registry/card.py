"""The model card of the model in use, as `madrone train` logs it: fetched when it is first asked for, and kept."""

import asyncio
import logging
import tempfile
import time
from pathlib import Path

import msgspec

from app.models.directory import read_file
from app.models.identity import ModelIdentity
from app.models.refusal import ModelRefused
from app.models.registry.source import ModelSource, NothingToServe, RegistryUnreachable

CARD_FILE = "card.json"
PICTURES = {
    "importance.png": "Bars of the most important features, by their share of the gain",
    "error_map.png": "Map of the mean absolute error of the test rows",
}
"""Pictures that a card may have, and what they show."""

MOST_CARD_BYTES = 4 * 1024 * 1024
MOST_PICTURE_BYTES = 2 * 1024 * 1024
PNG_START = b"\x89PNG\r\n\x1a\n"

RETRY_S = 300.0
"""Time after which a card that could not be had is asked for again."""

log = logging.getLogger(__name__)


class CardData(msgspec.Struct, frozen=True):
    """The part of a card about the data; see `app.training.card.contents.Data`."""

    target: str = ""
    unit: str = ""
    source: str = ""
    rows: int = 0


class CardText(msgspec.Struct, frozen=True):
    """The part of card.json that is shown; see `app.training.card.contents.Card`."""

    title: str
    data: CardData


class Card(msgspec.Struct, frozen=True):
    """A model card.

    Attributes:
        text: What it says.
        pictures: PNG files by name.
    """

    text: CardText
    pictures: dict[str, bytes]


class ModelCards:
    """Gives the card of a version, which is fetched once. Only the newest is kept.

    Args:
        source: The registry.
    """

    def __init__(self, source: ModelSource) -> None:
        self._source = source
        self._fetching = asyncio.Lock()
        self._of: tuple[str, int | None] | None = None
        self._card: Card | None = None
        self._until = 0.0

    async def of(self, identity: ModelIdentity) -> Card | None:
        """The card of a version; None if it has none, or if it cannot be had now."""
        wanted = identity.version, identity.created_at_ms
        async with self._fetching:
            if self._of != wanted or (self._card is None and time.monotonic() > self._until):
                self._card = await asyncio.to_thread(self._fetch, identity)
                self._of, self._until = wanted, time.monotonic() + RETRY_S
            return self._card

    def _fetch(self, identity: ModelIdentity) -> Card | None:
        with tempfile.TemporaryDirectory(prefix="madrone-card-") as temporary:
            try:
                directory = self._source.card(identity, Path(temporary))
                return None if directory is None else read_card(directory)
            except (NothingToServe, ModelRefused, RegistryUnreachable, OSError) as error:
                told = {"model_version": identity.version, "reason": str(error)}
                log.warning("the model's card cannot be had", extra=told)
                return None


def read_card(directory: Path) -> Card:
    """Read a card's text and pictures.

    Raises:
        ModelRefused: The directory has no card.json that can be read; the message says why.
    """
    try:
        text = msgspec.json.decode(read_file(directory, CARD_FILE, MOST_CARD_BYTES), type=CardText)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelRefused(f"the model's card is not valid: {error}"[:300]) from error
    pictures: dict[str, bytes] = {}
    for name in PICTURES:
        if (directory / name).exists():
            content = read_file(directory, name, MOST_PICTURE_BYTES)
            if content.startswith(PNG_START):
                pictures[name] = content
    return Card(text, pictures)
