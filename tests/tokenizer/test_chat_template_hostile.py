"""A hostile template ends in an error: no reflection, no time, no memory to be had."""

from __future__ import annotations

import sys
import threading
import time
import tracemalloc
from typing import Any

import pytest

from rocmforge.errors import InvalidArgumentError, ModelFileError
from rocmforge.tokenizer.chat_template import ChatTemplate
from rocmforge.tokenizer.template_limits import TemplateLimits

MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
MAX_CPU_S = 0.3
MAX_BYTES = 64 * 1024 * 1024

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ''['__cla' ~ 'ss__'] }}",
    "{{ [].__class__.__base__.__subclasses__() }}",
    "{{ {}.__class__ }}",
    "{{ ().__class__ }}",
    "{{ 1 .__class__ }}",
    "{{ none.__class__ }}",
    "{{ true.__init__ }}",
    "{{ messages.__class__ }}",
    "{{ messages[0].__getattribute__('keys') }}",
    "{{ messages | attr('__class__') }}",
    "{{ '' | attr('format') }}",
    "{{ ['__class__'] | map('attr', '__mro__') | list }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ [''] | map(attribute='__class__.__mro__') | list }}",
    "{{ [''] | selectattr('__class__') | list }}",
    "{{ [''] | groupby('__class__') }}",
    "{{ [''] | sort(attribute='__class__') }}",
    "{{ [''] | sum(attribute='__class__', start='') }}",
    "{{ [''] | join(attribute='__class__') }}",
    "{{ [''] | unique(attribute='__class__') | list }}",
    "{{ [''] | min(attribute='__class__') }}",
    "{{ '{0.__class__}'.format('') }}",
    "{{ '{0.__class__.__name__}'.format('') }}",
    "{{ '{0.upper}'.format('x') }}",
    "{{ '{0[0]}'.format('text') }}",
    "{{ '{0[__class__]}'.format('') }}",
    "{{ '{x.__init__.__globals__}'.format(x=range) }}",
    "{{ '{:{0.__class__}}'.format('') }}",
    "{{ '{a.__class__}'.format_map({'a': ''}) }}",
    "{{ ''['format_map'] }}",
    "{% set f = '{0.__class__}'.format %}{{ f('') }}",
    "{{ ['{0.__class__}'.format] | map('string') | join }}",
    "{{ ('{0.__class__}' | safe).format('') }}",
    "{{ ('x' | safe).__html__() }}",
    "{{ ('x' | safe).unescape() }}",
    "{{ lipsum.__globals__ }}",
    "{{ lipsum(5) }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ cycler(1).__init__ }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__ }}",
    "{{ namespace(a=1).__class__ }}",
    "{{ namespace(a=1)._Namespace__attrs }}",
    "{{ namespace(a=1)['_Namespace__attrs'] }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__self__ }}",
    "{{ range.__self__ }}",
    "{{ range(3).__reduce__() }}",
    "{{ dict.fromkeys('ab') }}",
    "{{ dict.mro() }}",
    "{{ dict }}",
    "{{ range }}",
    "{{ self.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ self }}",
    "{{ loop.__class__ }}{% for x in [1] %}{{ loop.__class__ }}{% endfor %}",
    "{% for x in [1] %}{{ loop._iterator }}{% endfor %}",
    "{% for x in [1] %}{{ loop._recurse }}{% endfor %}",
    "{% for x in [1] %}{{ loop }}{% endfor %}",
    "{% macro m() %}{{ caller }}{% endmacro %}{% call m() %}x{% endcall %}",
    "{% macro m() %}{% endmacro %}{{ m._func }}",
    "{% macro m() %}{% endmacro %}{{ m._environment }}",
    "{% macro m() %}{% endmacro %}{{ m['_func'].__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m.__call__ }}",
    "{% macro m() %}{% endmacro %}{{ [m] }}",
    "{{ undefined_name.__class__ }}",
    "{{ undefined_name._fail_with_undefined_error }}",
    "{{ messages[0].nothing._undefined_hint }}",
    "{{ [1] | map('upper') }}",
    "{{ (1, 2).__add__((3,)) }}",
    "{{ (1).to_bytes(1000, 'big') }}",
    "{{ 'x'.encode() }}",
    "{{ 'x'.encode('idna') }}",
    "{{ 'x'.translate({120: 'y'}) }}",
    "{{ ''.maketrans('a', 'b') }}",
    "{{ messages.append(1) }}",
    "{{ messages.clear() }}",
    "{{ messages.pop() }}",
    "{{ messages.sort() }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{{ messages[0].pop('role') }}",
    "{{ messages[0].setdefault('x', 1) }}",
    "{% set messages.x = 1 %}",
    "{% include 'etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% from 'os' import system %}",
    "{% extends 'base' %}",
    "{% block b %}{{ self.b() }}{% endblock %}",
    "{% autoescape true %}{{ 1 }}{% endautoescape %}",
    "{{ '%c' % 4294967295 }}",
    "{{ '%(x.__class__)s' % {'x': 1} }}",
    "{{ '%s' % range }}",
    "{{ (messages | map('attr', 'pop') | first)() }}",
    "{{ [messages[0].get] | first }}",
    "{{ messages[0].items | tojson }}",
    "{{ environment }}{{ context.environment }}",
    "{{ request.application.__globals__ }}",
    "{{ config.items() }}",
    "{{ '' | urlize }}",
    "{{ messages | pprint }}",
    "{{ strftime_now('%Y' * 1000) }}",
    "{{ messages.copy.__self__ }}",
    "{{ 0()}}",
    "{{ 'text'() }}",
    "{{ messages[0]() }}",
    "{{ none() }}",
    "{{ (dict[1])() }}",
]

GROWN = "{% set ns = namespace(x='abcdefgh') %}{% for i in range(22) %}"
GROWN += "{% set ns.x = ns.x ~ ns.x %}{% endfor %}"  # reaches 32 Mi characters if allowed
BIG = "{% set big = 'x' * 4000000 %}"

BOMBS = {
    "range": "{{ range(10**9) | list }}",
    "range loop": "{% for i in range(10**9) %}{% endfor %}",
    "nested loops": "{% for i in range(10**4) %}{% for j in range(10**4) %}{% endfor %}{% endfor %}",
    "nested loops with a test": "{% for i in range(99999) if i < 0 %}{% endfor %}" * 40,
    "nested output": "{% for i in range(9**4) %}{% for j in range(9**4) %}x{% endfor %}{% endfor %}",
    "deep loops": "{% for i in range(100) %}" * 8 + "{{ i }}" + "{% endfor %}" * 8,
    "string times": "{{ 'a' * 10**9 }}",
    "times string": "{{ 10**9 * 'a' }}",
    "list times": "{{ [1] * 10**9 }}",
    "tuple times": "{{ (1, 2) * 10**8 }}",
    "nested times": "{{ 'a' * 100000 * 100000 }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "power of two": "{{ 2 ** 1000000000 }}",
    "power by product": "{{ 10**4000 * 10**4000 * 10**4000 }}",
    "squaring": "{% set ns = namespace(x=3) %}{% for i in range(60) %}"
    "{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent precision": "{{ '%.1000000000f' % 1 }}",
    "percent star": "{{ '%*d' % (1000000000, 1) }}",
    "percent name": "{{ '%((x))999999999d' % {'(x)': 1} }}",
    "percent repeat": BIG + "{{ '%s%s%s%s' % (big, big, big, big) }}",
    "format filter": "{{ '%999999999s' | format('x') }}",
    "format": "{{ '{:>1000000000}'.format(1) }}",
    "format nested": "{{ '{:>{}}'.format(1, 1000000000) }}",
    "format precision": "{{ '{:.1000000000f}'.format(1.5) }}",
    "format repeat": BIG + "{{ '{0}{0}{0}{0}{0}'.format(big) }}",
    "center": "{{ 'a' | center(10**9) }}",
    "center method": "{{ 'a'.center(10**9) }}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**9) }}",
    "expandtabs": "{{ ('\\t' * 1000).expandtabs(10**7) }}",
    "indent": "{{ 'a\\nb' | indent(10**9) }}",
    "indent text": "{{ ('a\\n' * 100000) | indent('x' * 1000) }}",
    "wordwrap": "{{ ('a ' * 1000000) | wordwrap(1) }}",
    "title": "{{ ('a ' * 1000000) | title }}",
    "urlencode": BIG + "{{ big | urlencode }}",
    "batch": "{{ [1] | batch(10**9, 0) | list }}",
    "slice": "{{ [1] | slice(10**9, 0) | list }}",
    "round": "{{ 1.5 | round(10**9, 'ceil') }}",
    "int": "{{ ('f' * 4000000) | int(0, 16) }}",
    "replace": "{{ ('a' * 10000) | replace('a', 'b' * 10000) }}",
    "replace empty": "{{ ('a' * 10000).replace('', 'b' * 10000) }}",
    "join": "{{ ('a' * 10000) | join('b' * 10000) }}",
    "join method": "{{ ('b' * 10000).join('a' * 10000) }}",
    "join lazy": "{{ ('b' * 10000).join(range(90000) | map('string')) }}",
    "list of text": BIG + "{{ big | list | length }}",
    "split": "{{ ('a ' * 2000000).split() | length }}",
    "split by": "{{ ('a,' * 2000000).split(',') | length }}",
    "splitlines": "{{ ('\\n' * 4000000).splitlines() | length }}",
    "loop over text": BIG + "{% for c in big %}{% endfor %}",
    "loop length": BIG + "{% for c in big if c %}{{ loop.length }}{% endfor %}",
    "strip": "{{ ('a' * 1000000).strip('b' * 1000000 ~ 'a') }}",
    "rfind": "{{ ('a' * 2000000).rfind('b' ~ 'a' * 1000000) }}",
    "compare": BIG + "{% set two = big[1:] ~ 'x' %}" + "{{ two == big }}" * 400,
    "search": BIG + "{{ 'y' in big }}" * 400,
    "growth": GROWN + "{{ ns.x | length }}",
    "growth by plus": GROWN.replace("~", "+"),
    "growth of many": "{% set ns = namespace(l=[]) %}{% for i in range(100) %}"
    "{% set ns.l = ns.l + ['x' * 1000000 ~ i] %}{% endfor %}",
    "growth of lists": "{% set ns = namespace(l=[]) %}{% for i in range(900) %}"
    "{% set ns.l = [ns.l, range(9999) | list] %}{% endfor %}",
    "growth by block": BIG + "{% set a %}{{ big }}{{ big }}{% endset %}",
    "growth by macro": BIG + "{% macro m() %}" + "{{ big }}" * 9 + "{% endmacro %}{{ m() }}",
    "growth of names": "".join(f"{{% set a{i} = 'x' * 3999999 ~ {i} %}}" for i in range(90)),
    "growth by upper": "{{ ('\u0149' * 3999999).upper() }}",
    "small texts": "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}"
    "{% set ns.l = [ns.l, 'x' ~ i] %}{% endfor %}",
    "doubling": "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
    "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    "doubling compared": "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(40) %}"
    "{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
    "doubling by key": "{% set ns = namespace(t=(1,)) %}{% for i in range(40) %}"
    "{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ {ns.t: 1} }}",
    "doubling in a namespace": "{% set ns = namespace(d={}) %}{% for i in range(60) %}"
    "{% set ns.d = dict(a=ns.d, b=ns.d) %}{% endfor %}{{ ns.d | tojson }}",
    "sum of lists": "{{ ([range(99) | list] * 9999) | sum(start=[]) | length }}",
    "sort": "{% set a = 'x' * 999999 %}{{ ([a ~ 1, a ~ 2] * 9999) | sort | length }}",
    "unique": "{% set a = 'X' * 99999 %}{{ ([a, a] * 9999) | unique | list | length }}",
    "tojson indent": "{{ [[1]] | tojson(indent=10**9) }}",
    "tojson separators": "{{ ([1] * 9999) | tojson(separators=('x' * 9999, 'y')) }}",
    "tojson again": "{% set ns = namespace(x='\"') %}{% for i in range(40) %}"
    "{% set ns.x = ns.x | tojson %}{% endfor %}",
    "escape again": "{% set ns = namespace(x='&') %}{% for i in range(9999) %}"
    "{% set ns.x = ns.x | forceescape ~ '&&&&' %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "macros in turn": "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
    "macro tree": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
    "caller": "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
    "recursive loop": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "lazy chain": "{% set ns = namespace(g=[1]) %}{% for i in range(99999) %}"
    "{% set ns.g = ns.g | map('string') %}{% endfor %}{{ ns.g | list }}",
    "lazy product": "{% for i in range(999) %}{{ range(99999) | map('string') | first }}{% endfor %}",
    "attribute path": "{{ (range(99999) | list) | map(attribute='a' ~ '.a' * 9999) | list }}",
    "strftime": "{{ strftime_now('%999999999Y' * 99) }}",
    "dates": "{% for i in range(99999) %}{{ strftime_now('%c' * 99) | length }}{% endfor %}",
    "output": "{% for i in range(99999) %}" + "x" * 5000 + "{% endfor %}",
    "output of text": BIG + "{{ big }}{{ big }}",
    "parentheses": "{{ " + "(" * 100000 + "1" + ")" * 100000 + " }}",
    "parentheses 10^4": "{{ " + "(" * 10000 + "1" + ")" * 10000 + " }}",
    "brackets 150": "{{ " + "[" * 150 + "]" * 150 + " }}",
    "ifs": "{% if 1 %}" * 10000 + "{% endif %}" * 10000,
    "ifs 300": "{% if 1 %}" * 300 + "{% endif %}" * 300,
    "loops 30": "{% for x in [1] %}" * 30 + "{% endfor %}" * 30,
    "nots": "{{ " + "not " * 9000 + "1 }}",
    "minuses": "{{ " + "-" * 9000 + "1 }}",
    "sums": "{{ 1" + " + 1" * 9000 + " }}",
    "tildes": "{{ 1" + " ~ 1" * 9000 + " }}",
    "attributes": "{{ a" + ".a" * 9000 + " }}",
    "filters": "{{ a" + " | e" * 6000 + " }}",
    "conditions": "{{ " + "1 if 1 else " * 4000 + "1 }}",
    "elifs": "{% if 0 %}" + "{% elif 0 %}" * 9000 + "{% endif %}",
    "outputs": "{{ a }}" * 30000,
    "sets": "{% set a = 1 %}" * 12000,
    "source": "x" * (256 * 1024 + 1),
    "wide source": "\u20ac" * (100 * 1024),
    "open comment": "{#" * 100000,
    "open blocks": "{%" * 100000,
    "open quotes": "{{ '" + "\\'" * 100000,
    "spaces": "{%" + " " * 200000,
    "spaced blocks": ("{%" + " " * 60) * 4000,
    "digits": "{{ " + "1_" * 100000 + " }}",
    "long digits": "{{ " + "1" * 200000 + " }}",
    "recursive set": "{% set x = [] %}" + "{% set x = [x, x] %}" * 400 + "{{ x }}",
}


@pytest.mark.parametrize("source", ESCAPES)
def test_no_payload_reaches_out_of_the_sandbox(source: str) -> None:
    with pytest.raises((ModelFileError, InvalidArgumentError)) as caught:
        ChatTemplate(source).render(messages=MESSAGES)
    assert " at 0x" not in str(caught.value)


def run(source: str, limits: TemplateLimits | None = None) -> None:
    with pytest.raises((ModelFileError, InvalidArgumentError)):
        ChatTemplate(source, limits=limits).render(messages=MESSAGES)


@pytest.mark.parametrize("name", BOMBS)
def test_every_bomb_ends_soon(name: str) -> None:
    times = []
    for _ in range(3):  # another process may share the core's caches and clock
        start = time.thread_time()
        run(BOMBS[name])
        times.append(time.thread_time() - start)
        if times[-1] < MAX_CPU_S:
            break
    assert min(times) < MAX_CPU_S


@pytest.mark.parametrize("name", BOMBS)
def test_every_bomb_is_ended_before_it_holds_much(name: str) -> None:
    # Tracing makes everything slower: the clock must not be what saves the memory here.
    limits = TemplateLimits(cpu_s=0.3)
    tracemalloc.start()
    try:
        run(BOMBS[name], limits)
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    finally:
        tracemalloc.stop()


def test_the_steps_alone_end_a_loop() -> None:
    limits = TemplateLimits(steps=10_000, cpu_s=100.0)
    template = ChatTemplate("{% for i in range(99999) %}{% endfor %}", limits=limits)
    with pytest.raises(InvalidArgumentError, match="10000 steps"):
        template.render(messages=[])


def test_the_output_limit_is_the_callers() -> None:
    limits = TemplateLimits(output_chars=100)
    template = ChatTemplate("{% for m in messages %}{{ m }}{% endfor %}", limits=limits)
    assert template.render(messages=["x" * 50, "y" * 50]) == "x" * 50 + "y" * 50
    with pytest.raises(InvalidArgumentError, match="over 100 characters"):
        template.render(messages=["x" * 50, "y" * 51])


def test_memory_that_is_given_back_does_not_count() -> None:
    source = "{% set ns = namespace(x='') %}{% for i in range(60) %}"
    source += "{% set ns.x = 'x' * 1000000 ~ i %}{% endfor %}{{ ns.x | length }}"
    assert ChatTemplate(source).render(messages=[]) == "1000002"


def test_a_container_of_megabytes_is_not_printed() -> None:
    template = ChatTemplate("{{ [value] }}")
    assert len(template.render(messages=[], value="x" * 1_000_000)) == 1_000_004
    with pytest.raises(InvalidArgumentError, match="prints a value of"):
        template.render(messages=[], value="x" * 3_000_000)


def test_macros_nest_so_deep_and_no_deeper() -> None:
    template = ChatTemplate("{% macro m(n) %}{{ n }}{{ m(n - 1) if n }}{% endmacro %}{{ m(n) }}")
    assert template.render(messages=[], n=9) == "9876543210"
    assert template.render(messages=[], n=47).endswith("210")
    with pytest.raises(InvalidArgumentError, match="macros nested deeper than 48"):
        template.render(messages=[], n=48)


def test_lazy_filters_do_not_nest() -> None:
    source = "{% set ns = namespace(g=[1, 2]) %}{% for i in range(3000) %}"
    source += "{% set ns.g = ns.g | map('string') %}{% endfor %}{{ ns.g | join }}"
    assert ChatTemplate(source).render(messages=[]) == "12"


def test_a_caller_near_the_recursion_limit_gets_an_error_of_the_tree() -> None:
    template = ChatTemplate("{% macro m(n) %}{{ m(n - 1) if n }}{% endmacro %}{{ m(40) }}")

    def sink(depth: int) -> Any:
        if depth:
            return sink(depth - 1)
        return template.render(messages=[])

    caught: list[BaseException] = []

    def target() -> None:
        try:
            sink(sys.getrecursionlimit() - 60)
        except (RuntimeError, ValueError) as error:
            caught.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert [type(error) for error in caught] == [InvalidArgumentError]


def test_renderings_in_several_threads_do_not_share_their_limits() -> None:
    template = ChatTemplate("{% for i in range(2000) %}{{ i }}{% endfor %}")
    expected = "".join(map(str, range(2000)))
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(template.render(messages=[])))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 8
