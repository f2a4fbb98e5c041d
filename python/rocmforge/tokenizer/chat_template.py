"""Chat templates of model files: jinja2 as transformers sets it up, in a metered sandbox.

A template is a program written by whoever made the file. It can read the values it is given
and put out text, within the bounds of template_limits.py; nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from jinja2 import Template
from jinja2.exceptions import SecurityError

from rocmforge.errors import InvalidArgumentError
from rocmforge.tokenizer.template_environment import GuardedEnvironment, RaisedError
from rocmforge.tokenizer.template_limits import Meter, RenderLimitError, TemplateLimits
from rocmforge.tokenizer.template_syntax import compile_template, reject_template
from rocmforge.tokenizer.template_values import check_name, plain_copy


class ChatTemplate:
    """A compiled chat template; rendering it is safe from any thread.

    Raises ModelFileError if the source is over 256 KiB, does not parse, nests too deeply or
    uses inheritance, includes or imports.
    """

    def __init__(
        self,
        source: str,
        *,
        limits: TemplateLimits | None = None,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.source = source
        self._limits = limits or TemplateLimits()
        self._clock = clock
        environment = GuardedEnvironment(Meter(self._limits), clock)
        self._code = compile_template(environment, source)

    def render(
        self,
        *,
        messages: Iterable[Any],
        add_generation_prompt: bool = True,
        tools: Any = None,
        bos_token: str = "",
        eos_token: str = "",
        **names: Any,
    ) -> str:
        """The prompt for `messages`; `names` are further variables of the template.

        Without tools the variable `tools` is undefined: some templates only ask for that.

        Every value is plain data (text, numbers, booleans, None, lists, mappings) and is
        copied first. Raises InvalidArgumentError for a value or name that is not allowed, for
        what the template itself refuses (raise_exception, with its text), for a variable it
        misses, and when the rendering exceeds its time, memory or output; ModelFileError when
        the template attempts something forbidden.
        """
        if isinstance(messages, (str, bytes)) or not isinstance(messages, Iterable):
            msg = f"messages must be a list of mappings, not {type(messages).__name__}"
            raise InvalidArgumentError(msg)
        for name in names:
            check_name(name)
        given = {
            "messages": list(messages),
            "add_generation_prompt": add_generation_prompt,
            "bos_token": bos_token,
            "eos_token": eos_token,
            **names,
        }
        if tools is not None:
            given["tools"] = tools
        variables, size = {}, 0
        for name, value in given.items():
            variables[name], value_bytes = plain_copy(value, name)
            size += value_bytes
        return self._run(variables, size)

    def _run(self, variables: dict[str, Any], size: int) -> str:
        environment = GuardedEnvironment(Meter(self._limits, size), self._clock)
        template = Template.from_code(environment, self._code, environment.globals)
        try:
            return self._collect(template.root_render_func(template.new_context(variables)))
        except RaisedError as error:
            raise InvalidArgumentError(str(error)) from None
        except SecurityError as error:
            reject_template(str(error)[:500], error)
        except RenderLimitError as error:
            msg = f"chat template: {error}"
            raise InvalidArgumentError(msg) from None
        except RecursionError:
            msg = "chat template: the rendering nests too deeply"
            raise InvalidArgumentError(msg) from None
        except MemoryError:
            msg = "chat template: the rendering ran out of memory"
            raise InvalidArgumentError(msg) from None
        except Exception as error:  # a template can make Python raise anything
            msg = f"the chat template failed on these messages: {str(error)[:500]}"
            raise InvalidArgumentError(msg) from error

    def _collect(self, pieces: Iterable[str]) -> str:
        parts: list[str] = []
        chars = 0
        for piece in pieces:
            chars += len(piece)
            if chars > self._limits.output_chars:
                msg = f"the prompt is over {self._limits.output_chars} characters"
                raise RenderLimitError(msg)
            parts.append(piece)
        return "".join(parts)
