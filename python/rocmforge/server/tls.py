"""The server's certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

from rocmforge.errors import InvalidArgumentError
from rocmforge.server.settings import ServerSettings


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """None where the settings name no certificate.

    Raises InvalidArgumentError for a certificate without its key, and for files that are not these.
    """
    if settings.tls_cert is None and settings.tls_key is None:
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        given, missing = ("key", "cert") if settings.tls_cert is None else ("cert", "key")
        msg = f"there is a --tls-{given} but no --tls-{missing}; TLS needs both"
        raise InvalidArgumentError(msg)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        _load(context, settings.tls_cert, settings.tls_key)
    except OSError as error:  # that of ssl as well
        why = error.strerror or str(error)
        files = f"the certificate {settings.tls_cert} with the key {settings.tls_key}"
        msg = f"{files} cannot be used: {why}"
        raise InvalidArgumentError(msg) from None
    return context


def reload_certificate(context: ssl.SSLContext, settings: ServerSettings) -> None:
    """Takes the files as they are now, for connections that are yet to come.

    Raises InvalidArgumentError for files that cannot be used; the context is as it was then.
    """
    # First into another one: a context keeps half of what it could not use.
    if tls_context(settings) is not None and settings.tls_cert is not None:
        _load(context, settings.tls_cert, settings.tls_key)


def _load(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    # A key with a password would be asked for at the terminal.
    context.load_cert_chain(cert, key, password=lambda: "")
