"""Turns a submission into a request, or says why it can never run."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from rocmforge.engine.messages import Submit
from rocmforge.engine.request import Request
from rocmforge.engine.sampling import MAX_LOGPROBS, Grammar, SamplerState, SamplingParams
from rocmforge.errors import InvalidArgumentError, UnsupportedError

# Gives the grammar that structured parameters name; raises what GrammarCompiler.compile() does.
CompileGrammar = Callable[[SamplingParams], Grammar]


def make_request(
    submit: Submit,
    *,
    vocab_size: int,
    max_model_len: int,
    is_causal: bool = True,
    compile_grammar: CompileGrammar | None = None,
) -> Request:
    """Raises InvalidArgumentError, naming the value and its limit.

    UnsupportedError for anything but embeddings of a model that is not causal.
    """
    if submit.output != "hidden":
        check_predicts(is_causal)
    token_ids = _checked_token_ids(submit, vocab_size)
    num_prompt_tokens = len(token_ids)
    if submit.output != "tokens":
        if num_prompt_tokens > max_model_len:
            msg = f"{num_prompt_tokens} tokens do not fit into a context of {max_model_len}"
            raise InvalidArgumentError(msg)
        return Request(
            submit.request_id,
            token_ids,
            num_prompt_tokens,
            max_num_tokens=num_prompt_tokens,
            output=submit.output,
            num_logprobs=_checked_num_logprobs(submit),
            pooling=submit.pooling,
            namespace=submit.namespace,
        )
    params = submit.params
    if params is None:
        msg = "a request for tokens needs sampling parameters"
        raise InvalidArgumentError(msg)
    if num_prompt_tokens >= max_model_len:
        msg = (
            f"a prompt of {num_prompt_tokens} tokens leaves no room for output in a context of "
            f"{max_model_len}; shorten it or load the model with a longer context"
        )
        raise InvalidArgumentError(msg)
    grammar = None
    if params.is_structured:
        if compile_grammar is None:
            msg = "this engine has no vocabulary, which structured output needs"
            raise UnsupportedError(msg)
        grammar = compile_grammar(params)
    seed = submit.seed if params.seed is None else params.seed
    return Request(
        submit.request_id,
        token_ids,
        num_prompt_tokens,
        max_num_tokens=min(num_prompt_tokens + params.max_tokens, max_model_len),
        sampler=SamplerState(params, token_ids, vocab_size, seed, grammar),
        num_logprobs=params.logprobs,
        namespace=submit.namespace,
        stop_token_ids=frozenset() if params.ignore_eos else submit.stop_token_ids,
    )


def check_predicts(is_causal: bool) -> None:
    """Raises UnsupportedError for a model that predicts nothing."""
    if not is_causal:
        msg = (
            "this model makes embeddings and cannot generate text: its tokens see those after "
            "them; use LLM.embed, /v1/embeddings or the command embed, or load another model"
        )
        raise UnsupportedError(msg)


def _checked_num_logprobs(submit: Submit) -> int | None:
    if submit.output != "logprobs":
        return None
    if not 0 <= submit.num_logprobs <= MAX_LOGPROBS:
        msg = f"num_logprobs is {submit.num_logprobs}; it must be from 0 to {MAX_LOGPROBS}"
        raise InvalidArgumentError(msg)
    return submit.num_logprobs


def _checked_token_ids(submit: Submit, vocab_size: int) -> array[int]:
    try:
        token_ids = array("i", submit.prompt_token_ids)
    except (TypeError, OverflowError) as error:
        msg = f"prompt token ids must be 32-bit integers: {error}"
        raise InvalidArgumentError(msg) from None
    if not token_ids:
        msg = "the prompt has no tokens"
        raise InvalidArgumentError(msg)
    lowest, highest = min(token_ids), max(token_ids)
    if lowest < 0 or highest >= vocab_size:
        outside = lowest if lowest < 0 else highest
        msg = f"prompt token id {outside} is outside the model's vocabulary of {vocab_size}"
        raise InvalidArgumentError(msg)
    return token_ids
