"""TLS: the certificate that the server was given, and nothing older than 1.2."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from served import SMALL, Served, serving, terminate, wait_for

from rocmforge.errors import InvalidArgumentError
from rocmforge.server.settings import ServerSettings
from rocmforge.server.tls import reload_certificate, tls_context

PEMS = Path(__file__).parents[1] / "data" / "tls"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with certificate.pem and key.pem, the first of two pairs."""
    use("first", tmp_path)
    return tmp_path


def use(name: str, folder: Path, key: str = "") -> None:
    shutil.copy(PEMS / f"{name}.pem", folder / "certificate.pem")
    shutil.copy(PEMS / f"{key or name}-key.pem", folder / "key.pem")


def settings_of(folder: Path) -> ServerSettings:
    return ServerSettings.load(
        tls_cert=folder / "certificate.pem", tls_key=folder / "key.pem", threads=1
    )


@pytest.fixture
def served(files: Path) -> Iterator[Served]:
    pair = ("--tls-cert", str(files / "certificate.pem"), "--tls-key", str(files / "key.pem"))
    with serving(files, *SMALL, *pair) as served:
        yield served


def client_context(name: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(PEMS / f"{name}.pem"))


def connect(served: Served, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(address(served), timeout=20)
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


def address(served: Served) -> tuple[str, int]:
    parts = urlsplit(served.url)
    return parts.hostname or "", parts.port or 0


def test_a_client_that_trusts_the_certificate_is_served_and_streamed_to(served: Served) -> None:
    assert served.url.startswith("https://")
    body = {"prompt": "a", "max_tokens": 4, "stream": True}
    answer = served.post("/v1/completions", body, verify=client_context("first"))
    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n")
    assert terminate(served) == 0


def test_what_is_not_tls_or_an_old_one_is_not_served(served: Served) -> None:
    with socket.create_connection(address(served), timeout=20) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in plain.recv(1000)
    old = client_context("first")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")  # the client would be willing
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(served, old)
    with connect(served, client_context("first")) as new:
        assert new.version() in ("TLSv1.2", "TLSv1.3")
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(served, client_context("second"))


def test_a_handshake_that_does_not_get_on_is_given_up(served: Served) -> None:
    with socket.create_connection(address(served), timeout=20) as silent:
        assert silent.recv(1) == b""
    assert not [e for e in served.log_entries() if "traceback" in e]


def test_a_new_certificate_is_taken_on_sighup_and_a_bad_one_is_not(
    served: Served, files: Path
) -> None:
    use("second", files, key="first")
    served.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "stay as they are" in served.log.read_text())
    connect(served, client_context("first")).close()
    use("second", files)
    served.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "read again" in served.log.read_text())
    connect(served, client_context("second")).close()


def test_without_a_certificate_there_is_no_tls() -> None:
    assert tls_context(ServerSettings.load()) is None


def test_files_that_are_no_pair_are_named(files: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no --tls-key"):
        tls_context(ServerSettings.load(tls_cert=files / "certificate.pem"))
    with pytest.raises(InvalidArgumentError, match="no --tls-cert"):
        tls_context(ServerSettings.load(tls_key=files / "key.pem"))
    context = tls_context(settings_of(files))
    assert context is not None
    use("second", files, key="first")
    with pytest.raises(InvalidArgumentError, match=r"certificate\.pem.*key\.pem.*cannot be used"):
        reload_certificate(context, settings_of(files))
    (files / "key.pem").unlink()
    with pytest.raises(InvalidArgumentError, match="No such file"):
        tls_context(settings_of(files))
