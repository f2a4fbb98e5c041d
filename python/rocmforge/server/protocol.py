"""The bodies of requests, as OpenAI's API has them, and what is offered beside it.

Every parameter is typed and bounded here or in SamplingParams. One that is not listed is refused
rather than ignored; those of OpenAI's that make no difference here are listed as such.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from rocmforge.engine.sampling import SamplingParams
from rocmforge.errors import InvalidArgumentError
from rocmforge.server.errors import RequestError

MAX_CHOICES = 8
MAX_PROMPTS = 32
MAX_MESSAGES = 4096
MAX_TOOLS = 512

MAX_BIASES = 1024

ANY_OBJECT = '{"type":"object"}'

Item = TypeVar("Item")
# pydantic keeps about a kilobyte for each thing that is wrong, and a body has room for millions:
# one is enough.
ListOf = Annotated[list[Item], Field(fail_fast=True)]


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _keep_one_unknown(cls, data: Any) -> Any:
        """One name that is not known is enough to be refused; see ListOf."""
        if not isinstance(data, dict) or len(data) <= len(cls.model_fields):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = next(name for name in data if name not in known)
        return {name: value for name, value in data.items() if name in known or name == unknown}


class StreamOptions(StrictModel):
    include_usage: bool = False
    include_obfuscation: bool = False  # padding against traffic analysis; none is made


class JsonSchema(StrictModel):
    name: str = ""
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None  # always followed


class ResponseFormat(StrictModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


def _bounded_bias(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MAX_BIASES:
        msg = f"there are {len(value)} biases; the limit is {MAX_BIASES}"
        raise ValueError(msg)
    return value


class ContextOptions(StrictModel):
    """What to look for in the key's documents, for a model to answer with; bounds are Search's."""

    query: str | None = None  # the question itself
    store: str = "default"
    k: int = 5
    depth: int = 1
    linked: int = 2


class Sampling(StrictModel):
    """What completions and chats have in common."""

    model: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = Field(None, ge=0, le=1)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | ListOf[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Annotated[dict[str, float] | None, BeforeValidator(_bounded_bias)] = None
    response_format: ResponseFormat | None = None
    # Beside OpenAI's.
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    ignore_eos: bool | None = None
    context: ContextOptions | None = None
    regex: str | None = None
    grammar: str | None = None
    # Of no effect.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling_params(
        self, max_tokens: int, logprobs: int | None, json_schema: str | None = None
    ) -> SamplingParams:
        """Raises RequestError, naming the parameter."""
        defaults = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
        names = (
            *defaults,
            *("min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"),
            *("seed", "stop", "ignore_eos", "regex", "grammar"),
        )
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        try:
            return SamplingParams(
                max_tokens=max_tokens,
                logprobs=logprobs,
                json_schema=json_schema if json_schema is not None else self._json_schema(),
                logit_bias=self._logit_bias(),
                **{**defaults, **given},
            )
        except RequestError:
            raise
        except InvalidArgumentError as error:
            name = str(error).split()[0].split("[")[0]
            param = name if name in type(self).model_fields else None
            raise RequestError(str(error), param=param) from None

    def _json_schema(self) -> Any:
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return ANY_OBJECT
        if wanted.json_schema is None:
            msg = "response_format of type json_schema needs a json_schema"
            raise RequestError(msg, param="response_format.json_schema")
        return wanted.json_schema.schema_

    def _logit_bias(self) -> dict[int, float]:
        bias = self.logit_bias or {}
        if not all(key.isascii() and key.isdigit() and len(key) < 10 for key in bias):
            msg = "logit_bias must map token ids, as digits in a string, to numbers"
            raise RequestError(msg, param="logit_bias")
        return {int(key): value for key, value in bias.items()}


TokenIds = Annotated[ListOf[int], Field(min_length=1)]


def prompt_list(given: Any, name: str) -> list[str | list[int]]:
    """One prompt or several as several: a list of numbers is one prompt of token ids."""
    if not given:
        if given == "":
            return [""]
        msg = f"{name} is an empty list"
        raise RequestError(msg, param=name)
    if isinstance(given, str) or isinstance(given[0], int):
        return [given]
    return list(given)


class CompletionRequest(Sampling):
    prompt: (
        str
        | TokenIds
        | Annotated[ListOf[str], Field(max_length=MAX_PROMPTS)]
        | Annotated[ListOf[TokenIds], Field(max_length=MAX_PROMPTS)]
    )
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    best_of: int | None = None
    suffix: None = None

    def prompts(self) -> list[str | list[int]]:
        return prompt_list(self.prompt, "prompt")


class TextPart(StrictModel):
    type: Literal["text"]
    text: str


class FunctionCall(StrictModel):
    name: str
    arguments: str


class ToolCall(StrictModel):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(StrictModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | ListOf[TextPart] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: ListOf[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None  # of an answer that is sent back; of no effect
    audio: None = None
    function_call: None = None


class ToolFunction(StrictModel):
    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.-]+$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(StrictModel):
    type: Literal["function"]
    function: ToolFunction


class NamedFunction(StrictModel):
    name: str


class NamedTool(StrictModel):
    type: Literal["function"]
    function: NamedFunction


class TemplateOptions(StrictModel):
    """What a request may tell the model's own chat template."""

    enable_thinking: bool | None = None
    thinking: bool | None = None
    reasoning_effort: str | None = Field(None, max_length=16)


class ChatRequest(Sampling):
    messages: ListOf[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: ListOf[Tool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = Field(None, max_length=16)
    chat_template_kwargs: TemplateOptions | None = None
    modalities: ListOf[Literal["text"]] | None = None  # of no effect
