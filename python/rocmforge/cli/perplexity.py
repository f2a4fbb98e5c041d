"""`rocmforge perplexity`: how well a model predicts a text."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated

import typer

from rocmforge.cli.command import JsonOption, ModelOptions
from rocmforge.cli.loading import opened
from rocmforge.cli.terminal import progress, write, write_json
from rocmforge.cli.text_input import text_of_file
from rocmforge.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEFAULT_CTX = 512
MIN_CTX = 4  # one token is scored: the second half of a chunk without its first token


def perplexity(
    load: ModelOptions,
    file: Annotated[str, typer.Option("--file", "-f", metavar="T", help="A UTF-8 text.")],
    json_output: JsonOption = False,
) -> None:
    """Score how well a model predicts a text.

    In chunks of --ctx tokens (512), counted as llama.cpp's tool counts.

    Each chunk is a sequence of its own. Where the model wants a begin mark, it replaces the
    chunk's first token. Only the second half of a chunk is scored; a shorter rest is dropped.
    """
    text = text_of_file(file)
    ctx = DEFAULT_CTX if load.ctx is None else load.ctx
    if ctx < MIN_CTX:
        msg = f"--ctx is {ctx}; a chunk has at least {MIN_CTX} tokens"
        raise InvalidArgumentError(msg)
    with opened(dataclasses.replace(load, ctx=ctx)) as llm:
        tokenizer = llm.tokenizer
        token_ids = tokenizer.encode(text, add_special=True)
        chunks = [token_ids[i : i + ctx] for i in range(0, len(token_ids) - ctx + 1, ctx)]
        if not chunks:
            msg = f"{file} has {len(token_ids)} tokens; one chunk of --ctx needs {ctx}"
            raise InvalidArgumentError(msg)
        total, count = 0.0, 0
        with progress(f"scoring {len(chunks)} chunks of {ctx} tokens"):
            for chunk in chunks:
                if tokenizer.add_bos and tokenizer.bos_id is not None:
                    chunk[0] = tokenizer.bos_id
                first = ctx // 2
                logits = llm.logits(chunk[:-1])[first:]
                total += negative_log_likelihood(logits, chunk[first + 1 :])
                count += ctx - 1 - first
    mean = total / count
    if json_output:
        write_json({"perplexity": math.exp(mean), "nll_per_token": mean, "tokens": count})
    else:
        write(f"perplexity {math.exp(mean):.4f} ({mean:.5f} nats a token, {count} tokens)\n")


def negative_log_likelihood(logits: npt.NDArray[np.float32], targets: list[int]) -> float:
    """Nats for `targets` [n], given the logits [n, vocab] that predict them."""
    import numpy as np

    rows = logits.astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    likelihoods = rows[np.arange(len(targets)), targets] - np.log(np.exp(rows).sum(axis=1))
    return -float(likelihoods.sum())
