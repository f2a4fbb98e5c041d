"""API keys: kept as digests, compared in constant time, and a name space for each."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from rocmforge.errors import InvalidArgumentError
from rocmforge.server.settings import ServerSettings

MIN_KEY_BYTES = 16


class ApiKeys:
    """No keys at all: everybody may do everything."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = []
        for key in keys:
            data = key.encode()
            if len(data) < MIN_KEY_BYTES:
                msg = f"an API key has {len(data)} bytes; it must have {MIN_KEY_BYTES} or more"
                raise InvalidArgumentError(msg)
            self._digests.append(hashlib.sha256(data).digest())

    @classmethod
    def of(cls, settings: ServerSettings) -> ApiKeys:
        """Raises InvalidArgumentError for keys that are too short, or missing where needed."""
        keys = [] if settings.api_key is None else settings.api_key.get_secret_value().split(",")
        if settings.api_key_file is not None:
            try:
                lines = settings.api_key_file.read_text().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "it is not UTF-8"
                msg = f"the key file {settings.api_key_file} cannot be read: {why}"
                raise InvalidArgumentError(msg) from None
            keys += [line.strip() for line in lines if not line.startswith("#") and line.strip()]
            if not keys:
                msg = f"the key file {settings.api_key_file} has no keys"
                raise InvalidArgumentError(msg)
        if not keys and not settings.is_loopback and not settings.insecure_no_auth:
            msg = (
                f"host is {settings.host}, which others can reach: give --api-key-file or "
                "ROCMFORGE_API_KEY, or --insecure-no-auth to let everybody in"
            )
            raise InvalidArgumentError(msg)
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def identify(self, authorization: bytes | None) -> str | None:
        """The name space of the key in an Authorization header; None if it opens nothing."""
        scheme, _, key = (authorization or b"").partition(b" ")
        digest = hashlib.sha256(key.strip()).digest()
        found = None
        for known in self._digests:  # all of them: the time tells nothing
            if hmac.compare_digest(known, digest):
                found = known
        if scheme.lower() != b"bearer" or found is None:
            return None
        return found.hex()[:16]
