"""`madrone predict`: an example row for a running service."""

from typing import Any

import click

from app.commands.common import settings_of_environment, stop


@click.command()
@click.option("--url", help="URL of the service. Default: from API_HOST and API_PORT.")
def predict(url: str | None) -> None:
    """Send an example row to a running service.

    Prints the row, which is the model's own example, and the answer.
    """
    import httpx
    from rich.console import Console

    settings = settings_of_environment()
    host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host
    base = (url or f"http://{host}:{settings.api_port}").rstrip("/")
    headers = {"X-API-Key": settings.api_key} if settings.api_key else {}
    console = Console()
    try:
        with httpx.Client(base_url=base, headers=headers, timeout=settings.request_timeout, trust_env=False) as client:
            example: Any = _checked(client.get("/predict/model/info")).json()["example"]
            if example is None:
                stop("The model has no example row to send.")
            console.print(f"POST {base}/predict")
            console.print_json(data=example)
            console.print_json(_checked(client.post("/predict", json=example)).text)
    except httpx.TransportError as error:
        stop(f"No answer from {base}: {error}. Is the service running? `madrone serve` starts it.")


def _checked(response: Any) -> Any:
    if response.status_code != 200:
        stop(f"{response.request.url.path} answered {response.status_code}: {response.text}")
    return response
