"""The figures of one model, for the screen."""

from __future__ import annotations

from typing import Any

ENGINES = ("rocmforge", "llama_cpp")
QUIET_CORES = 0.1


def table(model: dict[str, Any]) -> str:
    """Rates with their ratio and their fractions of the read bandwidth, then load and memory."""
    lines = [f"{model['name']}", _row("", "rocmforge", "llama.cpp", "ratio", "of read bandwidth")]
    for result in model["tests"]:
        lines.append(
            _row(
                result["test"],
                *(f"{result[name]['median']:.1f} t/s" for name in ENGINES),
                f"{result['ratio']:.2f}",
                _shares(result, "fraction_of_read_bandwidth"),
            )
        )
        busy = result["other_busy_cores"]["median"]
        if busy > QUIET_CORES:
            lines.append(f"  other processes kept {busy:.1f} cores busy meanwhile")
        if left := _shares(result, "fraction_of_undisturbed"):
            lines.append(_row("", "", "", "", f"{left} of undisturbed"))
    first = model.get("first_token")
    for key, unit, scale in (
        ("load_to_first_token_s", "s", 1.0),
        ("process_to_first_token_s", "s", 1.0),
        ("peak_rss_bytes", "MiB", 2.0**-20),
    ):
        if first is not None:
            ours, theirs = (first[name][key]["median"] * scale for name in ENGINES)
            figures = (f"{ours:.2f} {unit}", f"{theirs:.2f} {unit}", f"{ours / theirs:.2f}")
            lines.append(_row(key.rpartition("_")[0], *figures, ""))
    if first is not None:
        share = first["peak_rss_over_limit"]
        lines.append(f"peak RSS is {share:.2f} of 1.1 x (file + KV + 200 MiB)")
    return "\n".join(lines)


def _shares(result: dict[str, Any], key: str) -> str:
    shares = [result[name][key] for name in ENGINES if key in result[name]]
    return " / ".join(f"{share:.0%}" for share in shares)


def _row(test: str, ours: str, theirs: str, ratio: str, shares: str) -> str:
    return f"{test:<24}{ours:>14}{theirs:>14}{ratio:>8}   {shares}".rstrip()
