"""A loaded model, its tokenizer and a running engine: what LLM and AsyncLLM have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rocmforge.engine.admission import CompileGrammar, check_predicts
from rocmforge.engine.arguments import (
    Messages,
    Prompt,
    check_conversation,
    check_params,
    check_prompt,
    prompt_list,
)
from rocmforge.engine.config import EngineConfig
from rocmforge.engine.decoder import Decoder
from rocmforge.engine.embedding import EmbeddingAssembler
from rocmforge.engine.host import EngineHost
from rocmforge.engine.messages import Submit
from rocmforge.engine.output import RowsAssembler, TextAssembler
from rocmforge.engine.sampling import SamplingParams
from rocmforge.errors import InvalidArgumentError
from rocmforge.model.execution_plan import Placement
from rocmforge.model.load_progress import LoadProgress
from rocmforge.model.loader import load_model, open_model
from rocmforge.model.pooling import Pooling, checked_pooling
from rocmforge.tokenizer import Tokenizer

if TYPE_CHECKING:
    from rocmforge.engine.grammar import GrammarCompiler


class Session:
    """Turns what callers ask into requests. Thread-safe."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        config: EngineConfig,
        *,
        name: str,
        placement: Sequence[Placement],
        num_fallbacks: int,
        load_s: float,
        pooling: Pooling = "mean",
    ) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.placement = [(placed.part, placed.device, placed.reason) for placed in placement]
        self.num_fallbacks = num_fallbacks
        # Where layers run; drawing tokens on the host makes no model a hybrid one.
        layers = [placed.device for placed in placement if placed.part != "sampling"]
        self.device = "+".join(dict.fromkeys(layers))
        self.load_s = load_s
        self.max_model_len = decoder.max_model_len
        self.vocab_size = decoder.vocab_size
        self.hidden_size = decoder.hidden_size
        self.is_causal = decoder.is_causal
        self.pooling = pooling
        self.host = EngineHost(
            decoder,
            config.scheduler_config(decoder.max_num_tokens),
            compile_grammar=_grammars_of(tokenizer, decoder.vocab_size),
        )

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None,
        config: EngineConfig,
        progress: LoadProgress | None = None,
    ) -> Session:
        """Raises what load_model() and Tokenizer.from_gguf() do."""
        start = time.perf_counter()
        # A vocabulary of 128,000 tokens takes half as long as the weights of a small model.
        with open_model(model) as file, ThreadPoolExecutor(1, "tokenizer") as beside:
            tokenizer = beside.submit(Tokenizer.from_gguf, file)
            loaded = load_model(file, config.load_options(), progress)
        return cls(
            loaded.decoder,
            tokenizer.result(),
            config,
            name=loaded.path.name,
            placement=loaded.placement,
            num_fallbacks=loaded.plan.num_fallbacks,
            load_s=time.perf_counter() - start,
            pooling=loaded.config.pooling or "mean",
        )

    def generation(self, prompt: Prompt, params: SamplingParams) -> TextAssembler:
        """Raises InvalidArgumentError for a prompt that cannot be encoded."""
        check_params(params)
        submit = self.token_submit(self.encode(prompt), params)
        return TextAssembler(submit, params, self.tokenizer)

    def token_submit(self, token_ids: Sequence[int], params: SamplingParams) -> Submit:
        """A new request that ends with the model's end-of-generation tokens."""
        return Submit(
            request_id=self.host.new_id(),
            prompt_token_ids=token_ids,
            params=params,
            seed=int.from_bytes(os.urandom(8), "little"),
            stop_token_ids=frozenset(self.tokenizer.eog_ids),
        )

    def logits(self, token_ids: Sequence[int]) -> RowsAssembler:
        submit = Submit(self.host.new_id(), token_ids, None, output="logits")
        return RowsAssembler(submit, self.vocab_size)

    def embeddings(
        self, texts: str | Sequence[str], pooling: Pooling | None, *, normalize: bool
    ) -> list[EmbeddingAssembler]:
        """Of one text or several; `pooling` None is the model's."""
        pooling = checked_pooling(pooling or self.pooling)
        new_id = self.host.new_id
        submits = [
            Submit(new_id(), self.encode(text), None, output="hidden", pooling=pooling)
            for text in prompt_list(texts)
        ]
        return [EmbeddingAssembler(s, self.hidden_size, normalize=normalize) for s in submits]

    def vectors(self, requests: Sequence[EmbeddingAssembler]) -> npt.NDArray[np.float32]:
        """[n, hidden_size] of finished requests; raises what one of them failed with."""
        vectors = np.empty((len(requests), self.hidden_size), np.float32)
        for vector, request in zip(vectors, requests, strict=True):
            vector[:] = request.output()
        return vectors

    def encode(self, prompt: Prompt) -> list[int]:
        """An empty text becomes the model's begin mark, if it has one."""
        check_prompt(prompt)
        tokenizer = self.tokenizer
        if isinstance(prompt, str):
            prompt = tokenizer.encode(prompt, add_special=True)
            if not prompt and tokenizer.bos_id is not None:
                prompt = [tokenizer.bos_id]
        if len(prompt) == 0:
            msg = "the prompt is empty, and the model has no token to begin a text with"
            raise InvalidArgumentError(msg)
        return list(prompt)

    def encode_chat(self, messages: Messages, tools: Any) -> list[int]:
        """Control tokens come from the template alone, begin mark included."""
        check_predicts(self.is_causal)  # whose file has no template either
        check_conversation(messages)
        return self.tokenizer.encode_chat(messages, tools=tools)


def _grammars_of(tokenizer: Tokenizer, vocab_size: int) -> CompileGrammar:
    """Imports llguidance, which takes 30 ms, with the first grammar."""

    @cache
    def compiler() -> GrammarCompiler:
        from rocmforge.engine.grammar import GrammarCompiler

        return GrammarCompiler(tokenizer, vocab_size)

    return lambda params: compiler().compile(params)
