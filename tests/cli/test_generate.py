from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rocmforge import LLM, SamplingParams

PROMPT = "Once upon a time"
KEYS = {
    "text",
    "token_ids",
    "prompt_token_ids",
    "finish_reason",
    "model",
    "device",
    "load_s",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
}


@pytest.fixture(scope="module")
def expected() -> Any:
    """What the library generates for the same request."""
    with LLM() as llm:
        return llm.generate(PROMPT, SamplingParams(temperature=0.0, max_tokens=12))[0]


def test_the_json_is_that_of_the_interface(run: Any, expected: Any) -> None:
    result = run("generate", PROMPT, "--temperature", 0, "--max-tokens", 12, "--json").json
    assert set(result) == KEYS
    assert result["text"] == expected.text
    assert result["token_ids"] == list(expected.token_ids)
    assert result["prompt_token_ids"] == list(expected.prompt_token_ids)
    assert result["finish_reason"] == "length"
    assert result["device"] == "cpu"
    assert result["load_s"] > 0
    assert result["prefill_tokens_per_s"] > 0
    assert result["decode_tokens_per_s"] > 0


def test_the_text_alone_goes_to_stdout_and_the_rates_to_stderr(run: Any, expected: Any) -> None:
    ran = run("generate", PROMPT, "--temperature", 0, "--max-tokens", 12)
    assert ran.exit_code == 0
    assert ran.out == expected.text + "\n"
    assert "output 12 tokens, " in ran.err
    assert "ended by length" in ran.err


def test_a_dash_reads_the_prompt_from_stdin(
    run: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PROMPT.encode())))
    result = run("generate", "-", "--temperature", 0, "--max-tokens", 12, "--json").json
    assert result["token_ids"] == list(expected.token_ids)


def test_no_prompt_is_the_models_beginning_of_a_text(run: Any, tiny_model: Path) -> None:
    result = run("generate", "--model", tiny_model, "--max-tokens", 3, "--json").json
    assert len(result["prompt_token_ids"]) == 1
    assert result["model"] == tiny_model.name


def test_one_token_has_no_decode_rate(run: Any, tiny_model: Path) -> None:
    arguments = ("--model", tiny_model, "--max-tokens", 1, "--ignore-eos", "--json")
    result = run("generate", "there is", *arguments).json
    assert len(result["token_ids"]) == 1
    assert result["decode_tokens_per_s"] is None


def test_every_sampling_option_reaches_the_engine(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []

    class Stop(Exception):
        pass

    def stream(_: LLM, prompt: str, params: SamplingParams) -> None:
        seen.extend((prompt, params))
        raise Stop

    monkeypatch.setattr(LLM, "stream", stream)
    options = "--max-tokens 7 --temperature 0.5 --top-k 3 --top-p 0.6 --min-p 0.1 --seed 9"
    run("generate", "x", *options.split(), "--stop", "a", "--stop", "b\n", "--ignore-eos")
    assert seen == [
        "x",
        SamplingParams(
            max_tokens=7,
            temperature=0.5,
            top_k=3,
            top_p=0.6,
            min_p=0.1,
            seed=9,
            stop=("a", "b\n"),
            ignore_eos=True,
        ),
    ]
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    seen.clear()
    run("generate", "x", "--json-schema", schema)
    assert seen[1].json_schema == '{"type": "object"}'


def test_every_loading_option_reaches_the_model(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def init(_: LLM, **options: Any) -> None:
        seen.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(LLM, "__init__", init)
    options = (
        "--model m --device hip:1 --threads 3 --ctx 99 --gpu-layers 4 --require-gpu "
        "--kv-dtype f32 --memory-fraction 0.25 --deterministic"
    )
    assert run("generate", "x", *options.split()).exit_code == 130
    assert seen.pop("progress").text() == ""
    assert seen == {
        "model": "m",
        "device": "hip:1",
        "threads": 3,
        "max_model_len": 99,
        "gpu_layers": 4,
        "require_gpu": True,
        "kv_dtype": "f32",
        "memory_fraction": 0.25,
        "deterministic": True,
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--max-tokens", "0"], "max_tokens is 0"),
        (["--temperature", "-1"], "temperature is -1"),
        (["--top-p", "nan"], "top_p"),
        (["--stop", ""], "stop"),
        (["--threads", "0"], "threads is 0"),
        (["--ctx", "0"], "0"),
        (["--ctx", "3"], "context of 3"),
        (["--kv-dtype", "q1"], "kv_dtype"),
        (["--device", "moon"], "moon"),
        (["--memory-fraction", "2"], "memory_fraction is 2"),
        (["--json-schema", "/no/such/file"], "/no/such/file"),
    ],
)
def test_a_value_that_cannot_work_is_named_with_exit_code_2(
    run: Any, tiny_model: Path, arguments: list[str], reason: str
) -> None:
    load = ("--model", tiny_model, "--device", "cpu")
    ran = run("generate", "there is the other one", *load, *arguments)
    assert ran.exit_code == 2
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1
    assert reason in ran.err


def test_a_fallback_to_the_cpu_is_one_line_on_stderr(run: Any, tiny_model: Path) -> None:
    ran = run("generate", "x", "--model", tiny_model, "--max-tokens", "1", "--json")
    if ran.json["device"] != "cpu":
        pytest.skip("this machine has a usable GPU")
    (line,) = ran.err.splitlines()
    assert line.startswith("runs on the CPU: no usable GPU (")
    assert run("generate", "x", "--model", tiny_model, "--device", "cpu", "--json").err == ""


@pytest.mark.parametrize(
    "arguments", [["--require-gpu"], ["--gpu-layers", "1"], ["--device", "gpu"]]
)
def test_a_gpu_that_is_not_there_is_exit_code_1(
    run: Any, tiny_model: Path, arguments: list[str]
) -> None:
    ran = run("generate", "x", "--model", tiny_model, *arguments)
    assert ran.exit_code == 1
    assert "cpu" in ran.err


ROCMFORGE = [sys.executable, "-m", "rocmforge"]


def start(*arguments: str, program: Sequence[str] = ROCMFORGE) -> subprocess.Popen[str]:
    command = [*program, "generate", PROMPT, "--device", "cpu", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_ends_a_story_with_what_there_is_of_it(interruptible: list[str]) -> None:
    with start("--ignore-eos", "--max-tokens", "1000", program=interruptible) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)  # it comes as it is generated
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert first
    assert len(out) < 4000
    assert err == "rocmforge: interrupted\n"


def test_the_first_words_come_before_the_last() -> None:
    with start("--ignore-eos", "--max-tokens", "400", "--seed", "3") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        assert process.poll() is None
        process.stdout.read()
        assert "output 400 tokens" in process.stderr.read()
    assert process.returncode == 0


def test_a_reader_that_has_enough_ends_the_story_quietly() -> None:
    with start("--ignore-eos", "--max-tokens", "1000") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1


def test_nothing_but_the_object_is_on_stdout() -> None:
    with start("--max-tokens", "5", "--json") as process:
        out, _ = process.communicate()
    assert out.count("\n") == 1
    assert set(json.loads(out)) == KEYS
