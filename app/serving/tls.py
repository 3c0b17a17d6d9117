"""Certificate and key of the service, read and checked before anything listens."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from app.config.settings import Settings
from app.files import reason

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate

    ServedKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

MOST_BYTES = 1024 * 1024
"""Bytes of a file, at most: thousands of certificates."""

LEAST_RSA_BITS, MOST_RSA_BITS = 2048, 8192
CURVES = ("secp256r1", "secp384r1")
"""Keys that rustls serves, which Granian uses: RSA, ECDSA on these curves, Ed25519."""


class BadTls(ValueError):
    """A file cannot be served with; the message begins with the setting, and quotes nothing of the file."""


class Credentials(NamedTuple):
    """What TLS is served with, in PEM.

    Attributes:
        certificates: The service's certificate, and those that lead to its authority.
        key: Its private key, without a password.
        client_ca: Authorities whose clients may connect; None for all clients.
        expires: End of the certificate's validity.
        valid: Whether the certificate is valid now.
    """

    certificates: bytes
    key: bytes
    client_ca: bytes | None
    expires: datetime
    valid: bool


def read_credentials(settings: Settings) -> Credentials | None:
    """Read the files of API_TLS_CERT, API_TLS_KEY and API_TLS_CLIENT_CA; None where TLS is not set.

    Raises:
        BadTls: A file is missing, is not what it should be, or does not fit to another.
    """
    if settings.api_tls_cert is None or settings.api_tls_key is None:
        return None
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    certificates = _read("API_TLS_CERT", settings.api_tls_cert)
    first = _certificates("API_TLS_CERT", certificates)[0]
    key = _key(_read("API_TLS_KEY", settings.api_tls_key), settings.api_tls_key_password)
    if key.public_key() != first.public_key():
        raise BadTls("API_TLS_KEY: must be the key of the first certificate in API_TLS_CERT, and is another one")
    client_ca = None
    if settings.api_tls_client_ca is not None:
        client_ca = _read("API_TLS_CLIENT_CA", settings.api_tls_client_ca)
        _certificates("API_TLS_CLIENT_CA", client_ca)
    return Credentials(
        certificates,
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        client_ca,
        first.not_valid_after_utc,
        first.not_valid_before_utc <= datetime.now(UTC) <= first.not_valid_after_utc,
    )


def _read(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadTls(f"{name}: must name a file that can be read: {reason(error)}") from None
    if len(content) > MOST_BYTES:
        raise BadTls(f"{name}: must name a file of at most {MOST_BYTES} bytes")
    return content


def _certificates(name: str, content: bytes) -> "list[Certificate]":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise BadTls(f"{name}: must name a file of certificates in PEM") from None


def _key(content: bytes, password: str | None) -> "ServedKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(content, None if password is None else password.encode())
    except TypeError:
        if password is None:
            raise BadTls("API_TLS_KEY_PASSWORD: must be set, since the key in API_TLS_KEY has a password") from None
        raise BadTls("API_TLS_KEY_PASSWORD: must not be set, since the key in API_TLS_KEY has none") from None
    except (ValueError, UnsupportedAlgorithm):
        wrong = "" if password is None else ", whose password is that of API_TLS_KEY_PASSWORD"
        raise BadTls(f"API_TLS_KEY: must name a file with a private key in PEM{wrong}") from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, rsa.RSAPrivateKey) and LEAST_RSA_BITS <= key.key_size <= MOST_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return key
    bits = f"{LEAST_RSA_BITS} to {MOST_RSA_BITS} bits"
    raise BadTls(f"API_TLS_KEY: must be a key of RSA with {bits}, of ECDSA on P-256 or P-384, or of Ed25519")
