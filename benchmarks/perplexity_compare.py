"""Scores the whole text with this build and says how far it is from llama.cpp's record.

    python benchmarks/perplexity_compare.py MODEL.gguf... --out RESULT.json

Models are found in the record by file name. The text is tests/data/sample-text.txt, as in the
record; the test suite scores its beginning only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TEXT = ROOT / "tests" / "data" / "sample-text.txt"
RECORD = ROOT / "benchmarks" / "results" / "perplexity-llama-cpp.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    record = json.loads(RECORD.read_text())
    results = {}
    for path in arguments.models:
        results[path.stem] = result = compare(path, record)
        print(f"{path.stem}: {result}")
    if arguments.out:
        report = {"version": version(), "models": results}
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


def compare(path: Path, record: dict[str, Any]) -> dict[str, float]:
    recorded = record["models"][path.stem]
    ours = score(path, record["n_ctx"])
    if ours["tokens"] != recorded["llama_cpp"]["tokens"]:
        sys.exit(f"{path.stem}: {ours['tokens']} tokens scored, not as in the record")
    return {
        "perplexity": ours["perplexity"],
        "over_llama_cpp": ours["perplexity"] / recorded["llama_cpp"]["perplexity"] - 1,
        "over_float64": ours["perplexity"] / recorded["float64"]["perplexity"] - 1,
    }


def score(path: Path, n_ctx: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "rocmforge", "perplexity", "--json"]
    command += ["--model", str(path), "--file", str(TEXT), "--ctx", str(n_ctx)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def version() -> str:
    command = [sys.executable, "-m", "rocmforge", "--version"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
