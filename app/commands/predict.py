"""`madrone predict`: an example row for a running service."""

import click

from app.commands.common import settings_of_environment, stop


@click.command()
@click.option("--url", help="URL of the service. Default: from API_HOST and API_PORT.")
def predict(url: str | None) -> None:
    """Send an example row to a running service.

    Prints the row, which is the model's own example, and the answer. A service with a key needs API_KEY here as well.
    """
    import msgspec
    from rich.console import Console

    from madrone.client import Client, KeyRefused, MadroneError, Unavailable

    settings = settings_of_environment()
    host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host
    host = f"[{host}]" if ":" in host else host
    console = Console()
    try:
        address = f"http://{host}:{settings.api_port}" if url is None else url
        client = Client(address, settings.api_key, timeout=settings.request_timeout, retries=0)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from None
    try:
        with client:
            example = client.model().example
            if example is None:
                stop("The model has no example row to send.")
            console.print(f"POST {client.url}/predict", soft_wrap=True)
            console.print_json(data=example)
            console.print_json(msgspec.json.encode(client.predict(example)).decode())
    except KeyRefused as error:
        stop(f"{error} Set API_KEY to the key of the service.")
    except Unavailable as error:
        hint = " Is the service running? `madrone serve` starts it." if error.status is None else ""
        stop(f"{error}{hint}")
    except MadroneError as error:
        stop(str(error))
