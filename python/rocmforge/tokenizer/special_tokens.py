"""Texts by which control tokens are known, and the ids that end a generation.

GGUF files mark control tokens by type, but many are marked wrongly or not at all, and only some
name the tokens that end a turn. The lists are llama.cpp's (src/llama-vocab.cpp).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_END_TEXTS: Final = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>"),
        *("<|calls|>", "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>"),
        *("[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>"),
        *("<|tool_response>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[e~["),
    }
)
# Padding, repository and file marks of fill-in-the-middle models: what follows is another file.
_NEXT_FILE_TEXTS: Final = frozenset(
    {
        *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
        *("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
        "<|file_sep|>",
    }
)
_FILL_IN_TEXTS: Final = frozenset(
    {
        *("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<\uff5cfim\u2581begin\uff5c>"),
        *("<PRE>", "\u2581<PRE>", "<|code_prefix|>", "<|prefix|>"),
        *("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<\uff5cfim\u2581hole\uff5c>"),
        *("<SUF>", "\u2581<SUF>", "<|code_suffix|>", "<|suffix|>"),
        *("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<\uff5cfim\u2581end\uff5c>"),
        *("<MID>", "\u2581<MID>", "<|code_middle|>", "<|middle|>"),
    }
)

# A token of one of these texts is a control token, whatever its type in the file.
CONTROL_TEXTS: Final = _END_TEXTS | _NEXT_FILE_TEXTS | _FILL_IN_TEXTS


def end_of_generation(ids: Mapping[str, int], named: set[int]) -> frozenset[int]:
    """All ids that end a generation: `named` by the file, and those known by their text."""
    ends = named | {ids[text] for text in _END_TEXTS | _NEXT_FILE_TEXTS if text in ids}

    def ended_by(*texts: str) -> bool:
        return any(ids.get(text) in ends for text in texts)

    # In these vocabularies <|end|> closes one message of several in a turn.
    harmony = ended_by("<|return|>") and ended_by("<|call|>", "<|calls|>")
    solar = ended_by("<|flush|>") and ended_by("<|call|>", "<|calls|>")
    if harmony or solar:
        ends.discard(ids.get("<|end|>", -1))
    # Here </s> is an HTML tag.
    if ended_by("<|tool_response>"):
        ends.discard(ids.get("</s>", -1))
    return frozenset(ends)
