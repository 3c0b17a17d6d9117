"""`madrone predict`: an example row for a running service."""

import ssl
from pathlib import Path

import click

from app.commands.common import settings_of_environment, stop
from app.config.settings import Settings

PEM_END = "-----END CERTIFICATE-----"

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--url", help="URL of the service, or unix: and a path. Default: what the settings say.")
@click.option("--ca", type=FILE, help="PEM file of the authority of the service's certificate.")
@click.option("--cert", type=FILE, help="PEM file of a certificate and its key, for a service with API_TLS_CLIENT_CA.")
@click.option("--name", help="Name of the model, of several in MODEL_NAMES. Default: the first.")
def predict(url: str | None, ca: Path | None, cert: Path | None, name: str | None) -> None:
    """Send an example row to a running service.

    Prints the row, which is the model's own example, and the answer. A service with a key needs API_KEY here as well.
    """
    import msgspec
    from rich.console import Console

    from madrone.client import Client, KeyRefused, MadroneError, Unavailable
    from madrone.client.calls import NameRefused

    settings = settings_of_environment()
    console = Console()
    address = _own_address(settings) if url is None else url
    trust: ssl.SSLContext | bool = True
    try:
        if address.startswith("https:"):
            trust = _trust(ca, settings.api_tls_cert if url is None else None)
            if cert is not None:
                trust.load_cert_chain(cert)
    except (OSError, ValueError) as error:  # those of ssl are OSErrors
        stop(f"A certificate cannot be used: {getattr(error, 'strerror', None) or type(error).__name__}.")
    try:
        client = Client(address, settings.api_key, timeout=settings.request_timeout, retries=0, verify=trust, name=name)
    except ValueError as error:
        hint = "--name" if isinstance(error, NameRefused) else "--url"
        raise click.BadParameter(str(error), param_hint=hint) from None
    try:
        with client:
            example = client.model().example
            if example is None:
                stop("The model has no example row to send.")
            console.print(f"POST {client.url}{client.path}", soft_wrap=True)
            console.print_json(data=example)
            console.print_json(msgspec.json.encode(client.predict(example)).decode())
    except KeyRefused as error:
        stop(f"{error} Set API_KEY to the key of the service.")
    except Unavailable as error:
        hint = " Is the service running? `madrone serve` starts it." if error.status is None else ""
        stop(f"{error}{hint}")
    except MadroneError as error:
        stop(str(error))


def _own_address(settings: Settings) -> str:
    """URL of the service that has these settings."""
    if settings.api_unix_socket is not None:
        return f"unix:{settings.api_unix_socket.absolute()}"
    host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host
    host = f"[{host}]" if ":" in host else host
    return f"{'http' if settings.api_tls_cert is None else 'https'}://{host}:{settings.api_port}"


def _trust(ca: Path | None, own: Path | None) -> ssl.SSLContext:
    """Trust in an authority, in the service's own certificate under any host's name, or in what the system trusts.

    Raises:
        OSError: A file cannot be read, or holds no certificate.
        ValueError: A file is no text.
    """
    if ca is not None or own is None:
        return ssl.create_default_context(cafile=ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=own.read_text().partition(PEM_END)[0] + PEM_END)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
