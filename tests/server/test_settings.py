"""Settings: what the example file names is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rocmforge.errors import InvalidArgumentError
from rocmforge.server.settings import ServerSettings

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def test_the_example_names_settings_that_exist_with_values_they_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = re.findall(r"^(?:# )?(ROCMFORGE_\w+)=(.+)$", EXAMPLE.read_text(), re.MULTILINE)
    given = {name: value for name, value in lines if name != "ROCMFORGE_CONFIG"}
    assert len(given) > 10
    for name, value in given.items():
        assert name.removeprefix("ROCMFORGE_").lower() in ServerSettings.model_fields
        monkeypatch.setenv(name, value)
    settings = ServerSettings.load()
    assert settings.allowed_hosts == ["llm.example.org"]
    assert settings.api_key is not None


def test_a_key_is_not_shown_with_the_settings() -> None:
    assert "secret" not in repr(ServerSettings.load(api_key="secret" * 4))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"port": -1}, "port"),
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"memory_fraction": 2.0}, "memory_fraction"),
        ({"drain_s": -1.0}, "drain_s"),
        ({"log_level": "loud"}, "log_level"),
        ({"threads": 0}, "threads"),
    ],
)
def test_a_setting_out_of_range_is_named(flags: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        ServerSettings.load(**flags)


def test_lists_in_the_environment_that_are_no_json_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROCMFORGE_ALLOWED_HOSTS", "a.example")
    with pytest.raises(InvalidArgumentError, match="allowed_hosts"):
        ServerSettings.load()


@pytest.mark.parametrize(
    ("text", "words"),
    [("prot = 1", "prot"), ("port = 'x'", "port"), ("port = ", "TOML|Invalid")],
)
def test_a_setting_of_the_file_that_is_none_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(InvalidArgumentError, match=words):
        ServerSettings.load(file)


def test_a_setting_that_there_is_not_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text("no_such = 'a.gguf'\n")
    with pytest.raises(InvalidArgumentError, match="no_such: there is no such setting"):
        ServerSettings.load(tmp_path / "server.toml")
