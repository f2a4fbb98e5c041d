"""Chat templates render as jinja2 does when it is set up as transformers sets it up."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rocmforge.errors import InvalidArgumentError, ModelFileError
from rocmforge.tokenizer.chat_template import ChatTemplate

NOW = datetime(2026, 1, 2, 3, 4, 5)

CHATML = """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "# Tools" }}
    {%- for tool in tools %}
        {{- "\\n" ~ (tool | tojson) }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role != 'system' or loop.first and not tools %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

LLAMA3 = """{{ bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
<|start_header_id|>system<|end_header_id|>

Today Date: {{ date_string }}

{{ system_message }}<|eot_id|>
{% for message in messages %}
{%- set ns = namespace(calls=0) %}
<|start_header_id|>{{ message['role'] }}<|end_header_id|>

{% if 'tool_calls' in message %}
    {%- for call in message.tool_calls %}
        {%- set ns.calls = ns.calls + 1 %}
        {{- call.function.name }}({% for key, value in call.function.arguments.items() -%}
            {{ key }}={{ value | tojson }}{{ ", " if not loop.last }}
        {%- endfor %}) #{{ ns.calls }}
    {% endfor %}
{% else %}
{% generation %}{{ message['content'] | trim }}{% endgeneration %}
{% endif %}<|eot_id|>
{% endfor %}
{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{% endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.tool_calls is defined) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("roles must alternate: " + message.role) }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for call in message.tool_calls %}
            {%- set out = call.function | tojson %}
            {{- out[:-1] }}{{- ', "id": "%s"}' % call.id }}
            {%- if not loop.last %}{{- ", " }}{% else %}{{- "]" + eos_token }}{% endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] | trim + eos_token }}
    {%- elif message.role == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content | string + "}[/TOOL_RESULTS]" }}
        {%- continue %}
    {%- endif %}
{%- endfor %}
"""

SCHEMA = """
{%- macro kind(spec, depth=0) -%}
    {%- if spec.type == 'array' -%}{{ kind(spec['items'], depth + 1) }}[]
    {%- elif spec.type == 'object' -%}
        { {%- for key, value in spec.properties | dictsort -%}
        {{ key }}{{ '' if key in spec.get('required', []) else '?' }}: {{ kind(value, depth + 1) }}
        {{- '; ' if not loop.last }}{%- endfor -%} }
    {%- elif spec.enum is defined -%}{{ spec.enum | map('tojson') | join(' | ') }}
    {%- else -%}{{ {'string': 'string', 'integer': 'number'}[spec.type] | default('any', true) }}
    {%- endif -%}
{%- endmacro -%}
{%- for tool in tools or [] %}
// {{ tool.function.description | replace('\\n', '\\n// ') | indent(3) }}
type {{ tool.function.name }} = (_: {{ kind(tool.function.parameters) }}) => any;
{% endfor %}
{%- for group in messages | groupby('role') %}
{{ group.grouper | upper }}: {{ group.list | length }} {{ '%-8s|' | format(group.grouper) }}
{%- endfor %}
{%- set names = messages | map(attribute='role') | unique | list %}
{{ names }} {{ (messages | selectattr('role', 'equalto', 'user') | list)[-1].content[::-1] }}
{%- set kept %}{% filter upper %}{{ messages[0].content }}{% endfilter %}{% endset %}
{{ kept.split(' ') | join('_') }} {{ 'A{}B{x}'.format(names | length, x='y') }}
"""

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find",
            "description": "Finds <things> & more.\nSecond line é.",
            "parameters": {
                "type": "object",
                "required": ["what"],
                "properties": {
                    "what": {"type": "string"},
                    "limits": {"type": "array", "items": {"type": "integer"}},
                    "order": {"type": "text", "enum": ["up", "down"]},
                },
            },
        },
    }
]
CALL = {"function": {"name": "find", "arguments": {"what": "a 'b' <c>", "n": [1, 2.5]}}, "id": "x1"}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "user": [{"role": "user", "content": "Hello"}],
    "system": [
        {"role": "system", "content": " Be brief. "},
        {"role": "user", "content": "Привет, <b>"},
    ],
    "turns": [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": " 4\n"},
        {"role": "user", "content": "  and 3+3? \n"},
    ],
    "tools": [
        {"role": "user", "content": "find it"},
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        {"role": "tool", "content": "[1]"},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": "thanks"},
    ],
    "wrong order": [
        {"role": "assistant", "content": "me first"},
        {"role": "user", "content": "no"},
    ],
}


class Generation(Extension):
    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Any) -> str:
        return str(caller())


@cache
def plain_template(source: str) -> Template:
    """The oracle: jinja2 alone, configured here."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, "jinja2.ext.loopcontrols"],
    )

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment.filters["tojson"] = lambda x, **options: json.dumps(
        x, **{"ensure_ascii": False, **options}
    )
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = NOW.strftime
    return environment.from_string(source)


def plain_render(source: str, **variables: Any) -> str:
    return plain_template(source).render(**variables)


@cache
def guarded_template(source: str) -> ChatTemplate:
    return ChatTemplate(source, clock=lambda: NOW)


def render(source: str, **variables: Any) -> str:
    return guarded_template(source).render(**variables)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("source", [CHATML, LLAMA3, MISTRAL, SCHEMA])
@pytest.mark.parametrize("with_tools", [False, True])
def test_renders_what_plain_jinja2_renders(
    source: str, conversation: str, with_tools: bool
) -> None:
    variables: dict[str, Any] = {
        "messages": CONVERSATIONS[conversation],
        "add_generation_prompt": with_tools,
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    if with_tools:
        variables["tools"] = TOOLS
    failure = ""
    try:
        expected = plain_render(source, **variables)
    except (TemplateError, TypeError) as error:
        failure = str(error)
    if failure:
        with pytest.raises(InvalidArgumentError, match=re.escape(failure)):
            render(source, **variables)
    else:
        assert render(source, **variables) == expected


# One line a construct: what the rewriting of the syntax tree could get wrong.
EXPRESSIONS = [
    "{% for x in [3, 1, 2] if x > 1 %}{{ loop.index }}:{{ x }}{{ loop.last }} {% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}",
    "{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }},{% endfor %}",
    "{% for a, b in {'x': 1, 'y': 2}.items() %}{{ a }}{{ b }}{{ loop.cycle('-', '+') }}{% endfor %}",
    (
        "{% for x in range(9) %}{% if x == 2 %}{% continue %}{% elif x == 5 %}{% break %}{% endif %}"
        "{{ x }}{% endfor %}"
    ),
    "{% for x in 'abc' %}{{ loop.revindex }}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}",
    (
        "{% set ns = namespace(a=1, b=[]) %}{% for x in range(4) %}{% set ns.b = ns.b + [x * x] %}"
        "{% endfor %}{{ ns.b }} {{ ns.b | sum }} {{ ns.c is defined }}"
    ),
    "{% set a, b = 'x', [1] %}{{ a }}{{ b }}{{ a ~ b ~ none ~ 1.5 }}",
    "{{ [1, 2, 3][1:] }}{{ 'hello'[::-2] }}{{ (1, 2, 3)[:-1] }}{{ messages[0].content[1:3] }}",
    "{{ 1 < 2 < 3 }}{{ 3 > 2 > 2 }}{{ 'a' in 'cab' }}{{ 2 not in [1, 2] }}{{ [1] == [1.0] }}",
    "{{ 'a' * 3 }}{{ 2 ** 10 }}{{ 2 ** -1 }}{{ 7 // 2 }}{{ 7 % 4 }}{{ -7 / 2 }}{{ [0] * 3 }}",
    "{{ '%05d|%-4s|%.2f|%%|%(x)s' % {'x': 1} if false else '%05d|%-4s|%.2f|%%' % (42, 'a', 2/3) }}",
    "{{ '{:>6}|{:04d}|{!r}'.format('ab', 7, 'q') }}",
    "{{ messages | map(attribute='role') | join(', ') }} {{ messages | length }}",
    "{{ [3, 1, 2] | sort(reverse=true) }}{{ ['b', 'A'] | sort }}{{ ['b', 'A'] | sort(case_sensitive=true) }}",
    "{{ [1, 2, 3, 4, 5] | batch(2, 0) | list }}{{ [1, 2, 3, 4, 5] | slice(2) | list }}",
    "{{ [1, 2, 3] | select('odd') | list }}{{ [0, 1, ''] | reject | list }}{{ [1] | first }}",
    "{% if [] | select %}lazy results are true{% endif %}{{ [1, 2] | map('string') | first }}",
    "{{ '<b>' | safe }}{{ '<b>' | e }}{{ ('<i>' | safe) + '<b>' }}{{ '<' | safe ~ '<' }}",
    "{{ 'some long text here' | wordwrap(9) }}{{ 'x\\ny' | indent(2, true) }}{{ 'ab' | center(6) }}|",
    "{{ 'a b c' | title }}{{ 'abc' | capitalize }}{{ 'aXbX' | replace('X', '-', 1) }}{{ 'ab' | list }}",
    "{{ 3.14159 | round(2) }}{{ 2.5 | round | int }}{{ '17' | int + 1 }}{{ 'zz' | int(-1) }}",
    "{{ {'b': 1, 'a': [true, none]} | tojson }}{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, indent=2) }}",
    "{{ 'é<&>' | tojson }}{{ 'é' | tojson(ensure_ascii=true) }}{{ {'a': 1} | tojson(separators=(',', ':')) }}",
    "{% macro m(a, b='x') %}[{{ a }}{{ b }}{{ varargs }}{{ kwargs }}]{% endmacro %}{{ m(1) }}{{ m(1, 2, 3, z=4) }}",
    "{% macro m() %}<{{ caller(2) }}>{% endmacro %}{% call(x) m() %}{{ x + 1 }}{% endcall %}",
    "{% set x %}a{{ 1 }}{% endset %}{{ x | upper }}{% with y = 2 %}{{ y }}{% endwith %}{{ y }}",
    "{{ undefined_name }}{{ messages[0].nothing }}{{ messages[9] is defined }}{{ x | default('d') }}",
    "{{ messages[0]['role'] is string }}{{ messages is sequence }}{{ messages[0] is mapping }}{{ 1 is in [1] }}",
    "{{ dict(a=1, b=2) }}{{ dict(a=1).get('z', 9) }}{{ dict([('k', 'v')] ) }}{{ range(3) | list }}{{ range(3) }}",
    "{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{% set j = joiner('|') %}{{ j() }}a{{ j() }}b",
    "{{ 'a,b,,c'.split(',') }}{{ ' x '.strip() }}{{ 'x--y'.rsplit('--', 1)[-1] }}{{ 'ab'.startswith('a') }}",
    "{{ ','.join(['a', 'b']) }}{{ 'aaa'.replace('a', 'b', 2) }}{{ 'A'.lower() }}{{ 'ab'.find('b') }}",
    "{{ 5 if false }}{{ not true }}{{ true and 'x' or 'y' }}{{ +1 }}{{ -1 }}{{ 1_000 }}{{ 1e3 }}",
    "{% generation %}{% set z = 1 %}in{% endgeneration %}{{ z is defined }}",
    "  {% if true %}\n  body\n  {% endif %}\n{# gone #}\nx {%- if true %} y {% endif -%}\n z\n",
]


@pytest.mark.parametrize("source", EXPRESSIONS)
def test_every_construct_means_what_it_means_in_jinja2(source: str) -> None:
    variables = {"messages": CONVERSATIONS["turns"]}
    expected = plain_render(source, **variables)
    assert render(source, **variables) == expected


def test_real_templates_render_exactly(testdata: Path) -> None:
    folder = testdata / "templates"
    lines = (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 243
    for line in lines:
        case = json.loads(line)
        source = (folder / case["template"]).read_text(encoding="utf-8")
        if "error" in case:
            with pytest.raises(InvalidArgumentError) as caught:
                render(source, **case["inputs"])
            assert case["error"].split(": ", 1)[1] in str(caught.value), case["template"]
        else:
            assert render(source, **case["inputs"]) == case["expected"], case["template"]


def test_real_templates_render_tools_as_plain_jinja2_does(testdata: Path) -> None:
    num_same = 0
    for path in sorted((testdata / "templates").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for name in ("tools", "turns"):
            variables = {"messages": CONVERSATIONS[name], "tools": TOOLS, "enable_thinking": True}
            tokens = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
            try:
                expected = plain_render(source, **variables, **tokens)
            except (TemplateError, TypeError, RecursionError):
                with pytest.raises((InvalidArgumentError, ModelFileError)):
                    render(source, **variables, **tokens)
            else:
                assert render(source, **variables, **tokens) == expected, path.name
                num_same += 1
    assert num_same > 100


def test_the_text_of_raise_exception_reaches_the_caller_alone() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^System role not supported$"):
        render("{{ raise_exception('System role not supported') }}", messages=[])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% if %}", "line 1"),
        ("ok\n{% for x in y %}", "line 2"),
        ("{{ x | nosuchfilter }}", "nosuchfilter"),
        ("{{ x is nosuchtest }}", "nosuchtest"),
        ("{{ '\\N{no such name}' }}", "line 1"),
        ("{% include 'x' %}", "include"),
        ("{{ 1" + "0" * 5000 + " }}", "digits"),
        ("\ud800", "Unicode"),
        (b"bytes", "expected text"),
    ],
)
def test_a_template_that_does_not_parse_is_a_damaged_file(source: Any, reason: str) -> None:
    with pytest.raises(ModelFileError, match=reason) as caught:
        ChatTemplate(source)
    assert caught.value.key == "tokenizer.chat_template"


@pytest.mark.parametrize(
    "names",
    [
        {"tokenize": True},
        {"chat_template": "x"},
        {"template": "x"},
        {"raise_exception": "x"},
        {"range": [1]},
        {"_private": 1},
        {"not a name": 1},
        {"value": object()},
        {"value": b"bytes"},
        {"value": {1: "key"}},
        {"value": [[{"deep": {1, 2}}]]},
        {"value": lambda: 1},
        {"value": 1 << 20_000},
    ],
)
def test_a_variable_that_is_not_plain_data_is_refused(names: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        render("x", messages=[], **names)


def test_data_nested_without_end_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidArgumentError, match="deeper"):
        render("x", messages=[], value=loop)


@pytest.mark.parametrize("messages", ["text", 3, None])
def test_messages_must_be_a_list(messages: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="messages must be a list"):
        render("x", messages=messages)


def test_the_caller_keeps_its_own_data() -> None:
    messages = [{"role": "user", "content": "x"}]
    render("{% set m = messages[0] %}{{ m.update is defined }}", messages=messages)
    assert messages == [{"role": "user", "content": "x"}]


def test_a_long_conversation_renders() -> None:
    turn = {"role": "user", "content": "word " * 100}
    messages = [turn, {**turn, "role": "assistant"}] * 500
    expected = plain_render(CHATML, messages=messages, add_generation_prompt=True)
    assert render(CHATML, messages=messages) == expected
