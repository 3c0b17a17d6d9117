"""The model card on the page: `/console/card` and its pictures."""

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath

from app.console.page import HEADERS, PREFIX, Named, chosen
from app.container import InjectedServices, Services
from app.errors import NotFound
from app.models.registry.card import PICTURES, Card, CardData

PICTURE_ROUTE = PREFIX + "/card/{picture:str}"


class Picture(msgspec.Struct, frozen=True):
    """A picture of a card: its file, and what it shows."""

    file: str
    text: str


class ShownCard(msgspec.Struct, frozen=True):
    """What the page shows of a card."""

    title: str
    data: CardData
    pictures: tuple[Picture, ...]


@get(PREFIX + "/card", include_in_schema=False)
async def model_card(services: InjectedServices, model: Named = None) -> ShownCard | None:
    """The card of the model in use; null if it has none. The first request for it waits for the registry."""
    card = await _card(chosen(services, model))
    if card is None:
        return None
    pictures = tuple(Picture(name, text) for name, text in PICTURES.items() if name in card.pictures)
    return ShownCard(card.text.title, card.text.data, pictures)


@get(PICTURE_ROUTE, include_in_schema=False)
async def card_picture(
    services: InjectedServices, request: Request[Any, Any, Any], picture: FromPath[str], model: Named = None
) -> Response[bytes]:
    """A picture of the card."""
    request.scope["path_template"] = PICTURE_ROUTE  # pyright: ignore[reportGeneralTypeIssues]
    card = await _card(chosen(services, model))
    content = card and card.pictures.get(picture)
    if content is None:
        raise NotFound("The model has no such picture.")
    return Response(content, headers=HEADERS, media_type="image/png")


async def _card(services: Services) -> Card | None:
    return await services.cards.of(services.slot.require().identity)
