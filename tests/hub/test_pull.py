from __future__ import annotations

import errno
import io
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import FakeHub, served

from rocmforge import LLM
from rocmforge.cli import main
from rocmforge.errors import (
    InvalidArgumentError,
    RocmForgeError,
    UnavailableError,
    UnsupportedError,
)
from rocmforge.hub.client import Hub
from rocmforge.hub.pull import Pulled, PullProgress, pull
from rocmforge.hub.store import located
from rocmforge.model.loader import embedded_model

DATA = bytes(range(256)) * 12_000  # 3 MB


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with served({"model-Q4_K_M.gguf": DATA, "README.md": b"words"}) as server:
        yield server


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_ENDPOINT", "HF_TOKEN", "ROCMFORGE_MODELS"):
        monkeypatch.delenv(name, raising=False)


def fetch(hub: FakeHub, folder: Path, model: str = "owner/repo", **options: Any) -> list[Pulled]:
    waits: list[float] = []
    client = Hub(hub.endpoint, options.pop("token", None))
    return pull(model, client, folder, sleep=waits.append, **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


def test_a_model_gets_its_name_when_all_of_it_is_there(hub: FakeHub, tmp_path: Path) -> None:
    progress = PullProgress()
    (file,) = fetch(hub, tmp_path, progress=progress)
    assert file.path == tmp_path / "owner" / "repo" / "model-Q4_K_M.gguf"
    assert file.path.read_bytes() == DATA
    assert (file.size_bytes, file.resumed_at) == (len(DATA), 0)
    assert progress.done_bytes == progress.total_bytes == len(DATA)
    assert progress.text().startswith("3.1 of 3.1 MB, ")
    assert not parts(tmp_path)


def test_what_is_there_already_is_checked_and_not_fetched_again(
    hub: FakeHub, tmp_path: Path
) -> None:
    (first,) = fetch(hub, tmp_path)
    (again,) = fetch(hub, tmp_path)
    assert again.resumed_at == len(DATA)
    assert len(hub.fetched()) == 1
    first.path.write_bytes(DATA[:-1] + b"?")
    assert fetch(hub, tmp_path)[0].resumed_at == 0
    assert first.path.read_bytes() == DATA


def test_a_broken_connection_is_taken_up_where_it_broke(hub: FakeHub, tmp_path: Path) -> None:
    hub.break_after = [1_000_000, 500_000]
    (file,) = fetch(hub, tmp_path)
    assert file.path.read_bytes() == DATA
    assert hub.fetched() == ["", "bytes=1000000-", "bytes=1500000-"]


def test_the_next_pull_goes_on_where_one_gave_up(hub: FakeHub, tmp_path: Path) -> None:
    hub.break_after = [2_000_000]
    hub.status = []
    broken = [0] * 5  # after the first answer: nothing, five times
    hub.break_after += broken
    with pytest.raises(UnavailableError, match="2000000 of 3072000 bytes are here"):
        fetch(hub, tmp_path)
    assert not list(tmp_path.rglob("*.gguf"))
    assert parts(tmp_path)[0].stat().st_size == 2_000_000
    (file,) = fetch(hub, tmp_path)
    assert file.resumed_at == 2_000_000
    assert file.path.read_bytes() == DATA
    assert hub.fetched()[-1] == "bytes=2000000-"


def test_a_server_that_knows_no_ranges_starts_over(hub: FakeHub, tmp_path: Path) -> None:
    hub.break_after, hub.ranges = [1_000_000], False
    progress = PullProgress()
    (file,) = fetch(hub, tmp_path, progress=progress)
    assert file.path.read_bytes() == DATA
    assert progress.done_bytes == len(DATA)


def test_another_range_than_was_asked_for_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    hub.break_after, hub.wrong_range = [1_000_000], True
    with pytest.raises(UnavailableError, match="another part"):
        fetch(hub, tmp_path)


def test_a_part_of_other_contents_is_not_continued(hub: FakeHub, tmp_path: Path) -> None:
    hub.break_after = [1_000_000, 0, 0, 0, 0, 0]
    with pytest.raises(UnavailableError):
        fetch(hub, tmp_path)
    with served({"model-Q4_K_M.gguf": DATA[::-1]}) as newer:
        (file,) = fetch(newer, tmp_path)
    assert file.resumed_at == 0
    assert file.path.read_bytes() == DATA[::-1]


def test_a_wrong_checksum_leaves_nothing_behind(hub: FakeHub, tmp_path: Path) -> None:
    hub.sha256["model-Q4_K_M.gguf"] = "0" * 64
    with pytest.raises(UnavailableError, match=r"instead of 0000.*has been deleted"):
        fetch(hub, tmp_path)
    assert not parts(tmp_path)
    assert not list(tmp_path.rglob("*.gguf"))


def test_a_part_that_was_damaged_on_disk_is_found_out(hub: FakeHub, tmp_path: Path) -> None:
    hub.break_after = [1_000_000, 0, 0, 0, 0, 0]
    with pytest.raises(UnavailableError):
        fetch(hub, tmp_path)
    part = parts(tmp_path)[0]
    part.write_bytes(b"?" + part.read_bytes()[1:])
    with pytest.raises(UnavailableError, match="SHA-256"):
        fetch(hub, tmp_path)
    assert fetch(hub, tmp_path)[0].path.read_bytes() == DATA


def test_no_more_is_written_than_the_hub_announced(hub: FakeHub, tmp_path: Path) -> None:
    hub.endless = True
    assert fetch(hub, tmp_path)[0].path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, InvalidArgumentError, "no such"),
        (403, InvalidArgumentError, "HF_TOKEN"),
        (503, None, ""),
    ],
)
def test_the_status_of_an_answer_decides(
    hub: FakeHub, tmp_path: Path, status: int, error: type[Exception] | None, message: str
) -> None:
    hub.status = [status]
    if error is None:  # passes
        assert fetch(hub, tmp_path)[0].path.read_bytes() == DATA
    else:
        with pytest.raises(error, match=message):
            fetch(hub, tmp_path)


def test_a_repository_that_is_not_there_is_named(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"owner/none: the hub knows no such"):
        fetch(hub, tmp_path, "owner/none")


def test_a_token_opens_what_401_closes_and_storage_never_sees_it(
    hub: FakeHub, tmp_path: Path
) -> None:
    key = "a-token"
    hub.token = key
    with pytest.raises(InvalidArgumentError, match=r"status 401.*HF_TOKEN"):
        fetch(hub, tmp_path)
    with served({"model-Q4_K_M.gguf": DATA}) as storage:
        hub.redirect_to = f"{storage.endpoint}/storage/model-Q4_K_M.gguf"
        fetch(hub, tmp_path, token=key)
        assert len(storage.requests) == 1
        assert "Authorization" not in storage.requests[0][1]


@pytest.mark.parametrize(
    "where",
    ["http://169.254.169.254/x", "http://localhost/x", "ftp://127.0.0.1/x", "file:///etc/passwd"],
)
def test_nothing_is_fetched_from_hosts_of_no_hub(hub: FakeHub, tmp_path: Path, where: str) -> None:
    hub.redirect_to = where
    with pytest.raises(UnavailableError, match="nothing is fetched from"):
        fetch(hub, tmp_path)


def test_redirections_end(hub: FakeHub, tmp_path: Path) -> None:
    hub.redirect_to = "/owner/repo/resolve/0123456789abcdef0123456789abcdef01234567/round"
    with pytest.raises(UnavailableError, match="redirections"):
        fetch(hub, tmp_path)


@pytest.mark.parametrize(
    "file",
    ["../../evil.gguf", "/etc/evil.gguf", "a/../../../evil.gguf", "..\\evil.gguf", "a\0.gguf",
     "a//b.gguf", ".hidden.gguf", "\n.gguf", "x" * 300 + ".gguf"],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, file: str) -> None:
    with served({file: DATA}) as hub, pytest.raises(InvalidArgumentError, match="no name to write"):
        fetch(hub, tmp_path / "models")
    assert names(tmp_path) == []


def test_a_link_in_the_store_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "models" / "owner" / "repo").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "models" / "owner" / "repo" / "sub").symlink_to(tmp_path / "elsewhere")
    with (
        served({"sub/model.gguf": DATA}) as other,
        pytest.raises(InvalidArgumentError, match="no name to write"),
    ):
        fetch(other, tmp_path / "models")
    assert names(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    "model", ["owner", "owner/", "../repo", "owner/..", "a/b/c", "https://hub/a", "owner/re po"]
)
def test_what_is_no_name_is_refused_before_anything_is_asked(
    hub: FakeHub, tmp_path: Path, model: str
) -> None:
    with pytest.raises(InvalidArgumentError, match="no model's name"):
        fetch(hub, tmp_path, model)
    assert hub.requests == []


def test_a_full_disk_is_told_before_and_while_it_fills(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(UnavailableError, match=r"no room for 3072000 bytes.*1000 bytes are"):
            fetch(hub, tmp_path)
    assert hub.fetched() == []

    class Full(io.BufferedRandom):
        def write(self, data: Any) -> int:
            if self.tell() > 1_500_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    opened = Path.open

    def opening(path: Path, mode: str = "r", *rest: Any) -> Any:
        if mode == "a+b":
            return Full(io.FileIO(path, "a+"))
        return opened(path, mode, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opening)
        with pytest.raises(UnavailableError, match=r"No space left.*is kept"):
            fetch(hub, tmp_path)
    kept = parts(tmp_path)[0].stat().st_size
    assert 1_500_000 < kept < len(DATA)
    assert fetch(hub, tmp_path)[0].resumed_at == kept


def test_two_pulls_at_once_fetch_it_once(hub: FakeHub, tmp_path: Path) -> None:
    hub.gate.clear()
    results: list[Pulled] = []
    progress = [PullProgress(), PullProgress()]
    threads = [
        threading.Thread(target=lambda p=p: results.extend(fetch(hub, tmp_path, progress=p)))
        for p in progress
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while not any("another pull" in p.note for p in progress) and time.monotonic() < deadline:
        time.sleep(0.01)
    hub.gate.set()
    for thread in threads:
        thread.join()
    assert len(hub.fetched()) == 1
    assert sorted(file.resumed_at for file in results) == [0, len(DATA)]
    assert results[0].path.read_bytes() == DATA


@pytest.mark.parametrize(
    "listing", [b"", b"[]", b"{}", b'{"sha": "zz", "siblings": []}', b'{"sha": 1, "siblings": 2}',
                b'{"sha": "0123456789", "siblings": [1]}', b"[" * 100_000]
)  # fmt: skip
def test_an_answer_that_is_no_listing_is_told(hub: FakeHub, tmp_path: Path, listing: bytes) -> None:
    hub.listing = listing
    with pytest.raises(UnavailableError, match="no list of files"):
        fetch(hub, tmp_path)


def test_a_file_without_a_checksum_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    hub.listing = b'{"sha": "0123456789", "siblings": [{"rfilename": "a.gguf", "size": 3}]}'
    with pytest.raises(UnsupportedError, match=r"no size and SHA-256 of 'a\.gguf'"):
        fetch(hub, tmp_path)


def test_nobody_at_the_endpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"cannot reach 127\.0\.0\.1"):
        pull("owner/repo", Hub("http://127.0.0.1:1"), tmp_path)
    with pytest.raises(InvalidArgumentError, match="endpoint"):
        Hub("huggingface.co")


@pytest.mark.parametrize(
    "endpoint",
    ["http://a:99999", "http://a:x", "http://[::1", "http://a b", "http://\u00fc", "ftp://a"],
)
def test_an_endpoint_that_is_no_address_is_told(endpoint: str) -> None:
    with pytest.raises(InvalidArgumentError, match="endpoint"):
        Hub(endpoint)


@pytest.mark.parametrize("token", ["a\nb", "a b", "\u00fc"])
def test_a_token_that_cannot_be_sent_is_told_without_it(token: str) -> None:
    with pytest.raises(InvalidArgumentError, match="HF_TOKEN") as raised:
        Hub("http://127.0.0.1:1", token)
    assert token not in str(raised.value)


def test_all_parts_of_a_split_model_are_pulled(tmp_path: Path) -> None:
    files = {f"q4/m-{i:05}-of-00002.gguf": DATA[i:] for i in (1, 2)}
    with served({**files, "mmproj-m.gguf": b"eye"}) as hub:
        pulled = fetch(hub, tmp_path)
    assert [file.path.name for file in pulled] == [
        "m-00001-of-00002.gguf",
        "m-00002-of-00002.gguf",
    ]
    with (
        served({"m-00002-of-00002.gguf": DATA}) as hub,
        pytest.raises(InvalidArgumentError, match="1 of 2 parts"),
    ):
        fetch(hub, tmp_path)


def test_of_several_models_the_usual_one_is_taken_or_the_one_named(tmp_path: Path) -> None:
    files = {f"m-{kind}.gguf": kind.encode() for kind in ("Q4_K_M", "Q8_0", "IQ4_XS", "Q6_K")}
    with served(files) as hub:
        assert fetch(hub, tmp_path)[0].path.name == "m-Q4_K_M.gguf"
        assert fetch(hub, tmp_path, "owner/repo:q6_k")[0].path.name == "m-Q6_K.gguf"
        assert fetch(hub, tmp_path, "owner/repo:m-IQ4_XS.gguf")[0].path.name == "m-IQ4_XS.gguf"
        with pytest.raises(InvalidArgumentError, match=r"no such model.*m-Q6_K\.gguf"):
            fetch(hub, tmp_path, "owner/repo:Q5_K_M")
        with pytest.raises(InvalidArgumentError, match="no such model"):
            fetch(hub, tmp_path, "owner/repo:K_M")
    with (
        served({"a.gguf": b"a", "b.gguf": b"b"}) as hub,
        pytest.raises(InvalidArgumentError, match=r"several models.*a\.gguf, b\.gguf"),
    ):
        fetch(hub, tmp_path)


def test_a_pulled_model_is_loaded_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROCMFORGE_MODELS", str(tmp_path))
    with pytest.raises(InvalidArgumentError, match="rocmforge pull owner/repo fetches it"):
        LLM("owner/repo")
    with served({"story.gguf": embedded_model().read_bytes()}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        assert main(["pull", "owner/repo"]) == 0
        assert capsys.readouterr().out == f"{tmp_path}/owner/repo/story.gguf\n"
    with LLM("owner/repo", device="cpu") as llm:
        assert llm.name == "story.gguf"
    for command in (["check"], ["info"], ["tokenize", "a", "--model"]):
        assert main([*command, "owner/repo:story"]) == 0, command
    assert main(["check", "owner/other"]) == 2


def test_a_path_is_never_taken_for_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").write_bytes(b"")
    for path in ("models/mine", "models/none.gguf", "/a/b", "mine", "a/b/c", Path("x/y")):
        assert located(path) == path


def test_the_store_is_the_users_cache_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "rocmforge" / "models" / "a" / "b" / "c.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert located("a/b") == file
    assert located("a/b:c") == file


def test_a_failure_is_one_line_and_its_exit_code(
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ROCMFORGE_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    assert main(["pull", "owner/none"]) == InvalidArgumentError.exit_code
    assert capsys.readouterr().err.count("\n") == 1
    hub.sha256["model-Q4_K_M.gguf"] = "0" * 64
    assert main(["pull", "owner/repo", "--json"]) == RocmForgeError.exit_code
    assert capsys.readouterr().out == ""
