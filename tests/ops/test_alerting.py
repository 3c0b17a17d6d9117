"""A real Prometheus with our rules watches a service in which something is wrong."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from app.config.settings import Settings
from app.ops.rules import rules
from tests.monitoring import Prometheus
from tests.ops.test_dashboard import EXPRESSIONS, computable
from tests.routes.support import client_of
from tests.support import START_TIMEOUT_S, come_true


def hasty(text: str) -> str:
    """The rules, which wait for nothing and look back for seconds in place of minutes."""
    return re.sub(r"for: \d+m", "for: 0s", text).replace("[5m]", "[30s]")


async def test_alerts_fire_for_a_missing_alias_and_the_failing_requests(
    settings: Settings, prometheus: Callable[..., Prometheus], tmp_path: Path, example: dict[str, float]
) -> None:
    """A scrape may fail on a busy machine, which ends all series until the next: so what has been seen is collected."""
    (tmp_path / "rules.yml").write_text(hasty(rules(settings, "")))
    async with client_of(msgspec.structs.replace(settings, model_alias="champoin")) as client:
        watcher = await asyncio.to_thread(prometheus, [settings.prometheus_port], rules=[tmp_path / "rules.yml"])
        expected = {"MadroneNotReady", "MadroneAliasMissing", "MadroneErrors"}
        texts: dict[str, dict[str, str]] = {}
        computed: set[str] = set()

        async def fires() -> bool:
            assert (await client.post("/predict", json=example)).status_code == 503
            texts.update(await asyncio.to_thread(watcher.firing))
            return texts.keys() >= expected

        def shows() -> bool:
            computed.update(one for one in EXPRESSIONS if watcher.query(computable(one)))
            return len(computed) > 15

        async with asyncio.timeout(START_TIMEOUT_S):
            while not await fires():  # noqa: ASYNC110 - Prometheus tells when it is asked
                await asyncio.sleep(0.2)
            # Every panel of the dashboard can be computed; `query` fails where one cannot.
            while not await asyncio.to_thread(shows):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        address = f"127.0.0.1:{settings.prometheus_port}"
        assert texts["MadroneNotReady"]["summary"] == f"{address} of madrone answers no predictions"
        assert texts["MadroneErrors"]["summary"] == "100% of the predictions of madrone fail"
        assert not [text for text in texts.values() if "no value" in str(text) or "{{" in str(text)]
        await come_true(lambda: watcher.value("max(service_status)") == 2)
