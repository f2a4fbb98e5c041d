from __future__ import annotations

import subprocess
import sys

import pytest

import rocmforge
from rocmforge import _native


@pytest.mark.parametrize("name", rocmforge.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(rocmforge, name) is not None
    assert name in dir(rocmforge)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rocmforge.nonsense


def test_the_version_is_that_of_the_build() -> None:
    assert rocmforge.__version__ == _native.BUILD.version


def test_all_errors_derive_from_one() -> None:
    errors = [
        value
        for name in rocmforge.__all__
        if isinstance(value := getattr(rocmforge, name), type) and issubclass(value, Exception)
    ]
    assert len(errors) == 8
    assert all(issubclass(error, rocmforge.RocmForgeError) for error in errors)


def test_the_name_sampling_config_is_sampling_params() -> None:
    assert rocmforge.SamplingConfig is rocmforge.SamplingParams


def test_importing_the_package_alone_loads_nothing_heavy() -> None:
    code = (
        "import sys, rocmforge; "
        "print([m for m in ('numpy', 'tokenizers', 'jinja2') if m in sys.modules]); "
        "print(rocmforge.tokenizer.ChatTemplate.__name__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\nChatTemplate\n"
