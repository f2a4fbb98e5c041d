"""The README's CPU table and docs/cpu-against-llama-cpp.svg, from results of compare_peer.py.

    python benchmarks/readme_figures.py results/compare-peer-....json [more.json ...]

Of a test that several files have, the last one counts. Nothing in the README is typed by hand
between the two marks.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from textwrap import fill
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- cpu figures: begin -->", "<!-- cpu figures: end -->"
PLOT = "docs/cpu-against-llama-cpp.svg"
TESTS = {
    "pp512": "prompt of 512",
    "tg64": "decode",
    "tg64@d4096": "after 4,096 tokens",
    "batch4": "4 sequences",
    "batch8": "8",
    "batch16": "16",
}
Figures = dict[str, dict[str, Any]]  # of a model: a test's result each


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    paths = [path.resolve() for path in parser.parse_args().results]
    figures, about = read(paths)
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    inside = f"{BEGIN}\n{about}\n\n{table(figures)}\n\n![ratios]({PLOT})\n{END}"
    readme.write_text(before + inside + after, encoding="utf-8")
    (ROOT / PLOT).write_text(plot(figures), encoding="utf-8")


def read(paths: list[Path]) -> tuple[dict[str, Figures], str]:
    """Figures by model and test, and a sentence about where they are from."""
    figures: dict[str, Figures] = {}
    for path in paths:
        report = json.loads(path.read_text(encoding="utf-8"))
        for model in report["models"]:
            tests = {result["test"]: result for result in model["tests"]}
            figures.setdefault(model["name"], {}).update(tests)
    machine, versions = report["machine"], report["versions"]
    files = ", ".join(f"[{path.name}]({path.relative_to(ROOT)})" for path in paths)
    return figures, fill(
        f"{machine['cpu']}, {report['threads']} threads, kernels for {versions['rocmforge']['isa']}, "
        f"against llama.cpp (llama-cpp-python {versions['llama_cpp']['llama-cpp-python']}, built "
        "natively by clang 19) on the same files of random weights, taking turns; tokens/s, medians, "
        f"in brackets the ratio; from {files}:",
        width=132,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(figures: dict[str, Figures]) -> str:
    lines = [
        "| model | " + " | ".join(TESTS.values()) + " |",
        "|---|" + "---|" * len(TESTS),
    ]
    for name, tests in figures.items():
        cells = [cell(tests[test]) if test in tests else "" for test in TESTS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(result: dict[str, Any]) -> str:
    rate = result["rocmforge"]["median"]
    return (
        f"{rate:,.0f} ({result['ratio']:.2f}x)"
        if rate >= 100
        else f"{rate:.1f} ({result['ratio']:.2f}x)"
    )


WIDTH, LEFT, BAR, GAP = 760, 190, 13, 18  # pixels
COLOURS = ("#c0392b", "#2c3e50", "#7f8c8d", "#e67e22", "#d4ac0d", "#a04000")


def plot(figures: dict[str, Figures]) -> str:
    """Bars of the ratio to llama.cpp, a group a model; the line is 1."""
    shapes: list[str] = []
    largest = max(
        tests[test]["ratio"] for tests in figures.values() for test in TESTS if test in tests
    )
    one = (WIDTH - LEFT - 50) / max(largest, 1.0)  # pixels of a ratio of 1
    y = 40
    for name, tests in figures.items():
        shown = [test for test in TESTS if test in tests]
        middle = y + BAR * len(shown) / 2 + 4
        shapes.append(text(LEFT - 10, middle, name, "end"))
        for test in shown:
            ratio = tests[test]["ratio"]
            colour = COLOURS[list(TESTS).index(test)]
            shapes.append(
                f'<rect x="{LEFT}" y="{y}" width="{ratio * one:.1f}" height="{BAR - 2}" fill="{colour}"/>'
            )
            shapes.append(text(LEFT + ratio * one + 5, y + BAR - 3, f"{ratio:.2f}", "start", 10))
            y += BAR
        y += GAP
    for i, (label, colour) in enumerate(zip(TESTS.values(), COLOURS, strict=True)):
        x = 10 + i * 125
        shapes.append(f'<rect x="{x}" y="12" width="10" height="10" fill="{colour}"/>')
        shapes.append(text(x + 15, 21, label, "start", 11))
    shapes.append(
        f'<line x1="{LEFT + one}" y1="32" x2="{LEFT + one}" y2="{y}" stroke="#000" stroke-dasharray="4"/>'
    )
    shapes.append(text(LEFT + one, y + 12, "llama.cpp = 1", "middle", 11))
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 24}" '
        f'font-family="sans-serif">\n<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def text(x: float, y: float, content: str, anchor: str, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">'
        f"{escape(content)}</text>"
    )


if __name__ == "__main__":
    main()
