"""Reads a chat template, bounds its size, and makes its syntax tree report to the meter.

The compiled form calls the environment for attributes, calls and operators, but loops,
containers, slices, comparisons and `~` run as plain Python. Those are rewritten here into
filters with names that template text cannot spell (they start with a digit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType
from typing import NoReturn

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser

from rocmforge.errors import ModelFileError
from rocmforge.tokenizer.template_limits import (
    MAX_BRACKET_DEPTH,
    MAX_NODES,
    MAX_SOURCE_BYTES,
    MAX_SYNTAX_DEPTH,
    MAX_TOKENS,
)

TICK, COST, CONCAT, SLICE, BUILT = "0tick", "0cost", "0concat", "0slice", "0built"

TEMPLATE_KEY = "tokenizer.chat_template"

_FORBIDDEN = {
    nodes.Extends: "extends",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from ... import",
    nodes.Block: "block",
    nodes.ScopedEvalContextModifier: "autoescape",
}


_OPENING = frozenset({"lparen", "lbracket", "lbrace"})
_CLOSING = frozenset({"rparen", "rbracket", "rbrace"})


def reject_template(message: str, cause: BaseException | None = None) -> NoReturn:
    error = ModelFileError(f"chat template: {message}", key=TEMPLATE_KEY)
    raise error from cause


class GenerationTag(Extension):
    """`{% generation %}` ... `{% endgeneration %}`: renders its body as it stands.

    Training code marks assistant text with it. As in transformers it is a call block, so
    variables set inside are not visible after it.
    """

    tags = {"generation"}  # noqa: RUF012 (declared so by the base class)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("render_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def render_body(self, caller: Callable[[], str]) -> str:
        return caller()


class BoundedTokens(Extension):
    """Bounds what the recursive parser sees, as it reads: it never gets past a limit."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        depth = 0
        for count, token in enumerate(stream, 1):
            if count > MAX_TOKENS:
                reject_template(f"more than {MAX_TOKENS} tokens")
            if token.type in _OPENING:
                depth += 1
                if depth > MAX_BRACKET_DEPTH:
                    reject_template(f"brackets nested deeper than {MAX_BRACKET_DEPTH}")
            elif token.type in _CLOSING:
                depth -= 1
            yield token


def compile_template(environment: Environment, source: str) -> CodeType:
    """The template as Python code. Raises ModelFileError for anything but a sound template."""
    if not isinstance(source, str):
        reject_template(f"expected text, got {type(source).__name__}")
    if len(source) > MAX_SOURCE_BYTES or len(_utf8(source)) > MAX_SOURCE_BYTES:
        reject_template(f"{len(source)} characters; at most {MAX_SOURCE_BYTES} bytes")
    try:
        tree = environment.parse(source)
        _check_tree(tree)
        _rewrite(tree)
        tree.set_environment(environment)
        return environment.compile(tree)
    except TemplateError as error:
        line = f"line {error.lineno}: " if isinstance(error, TemplateSyntaxError) else ""
        reject_template(f"{line}{str(error.message)[:500]}", error)
    except RecursionError:
        reject_template("nested too deeply")
    except (SyntaxError, MemoryError) as error:  # the limits of Python's own compiler
        reject_template(f"nested too deeply ({error})")
    except (ValueError, OverflowError) as error:  # literals that Python refuses
        reject_template(str(error)[:500], error)


def _utf8(source: str) -> bytes:
    try:
        return source.encode()
    except UnicodeEncodeError:
        reject_template("is not valid Unicode text")


def _check_tree(tree: nodes.Template) -> None:
    count = 0
    pending: list[tuple[nodes.Node, int]] = [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        count += 1
        if count > MAX_NODES:
            reject_template(f"more than {MAX_NODES} syntax nodes")
        if depth > MAX_SYNTAX_DEPTH:
            reject_template(f"nested deeper than {MAX_SYNTAX_DEPTH}")
        for kind, tag in _FORBIDDEN.items():
            if isinstance(node, kind):
                reject_template(f"line {node.lineno}: the tag {tag!r} is not allowed")
        pending.extend((child, depth + 1) for child in node.iter_child_nodes())


def _rewrite(node: nodes.Node) -> None:
    """Replaces, below `node`, every construct that has to be metered."""
    for name, value in list(node.iter_fields()):
        if isinstance(value, list):
            setattr(node, name, [_metered(item) if _is_node(item) else item for item in value])
        elif isinstance(value, nodes.Node):
            setattr(node, name, _metered(value))


def _is_node(value: object) -> bool:
    return isinstance(value, nodes.Node)


def _metered(node: nodes.Node) -> nodes.Node:
    _rewrite(node)
    if isinstance(node, nodes.For):
        node.body.insert(0, nodes.ExprStmt(_tick(node), lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(_tick(node), node.test, lineno=node.lineno)
    elif isinstance(node, nodes.Concat):
        return _filter(nodes.Tuple(node.nodes, "load", lineno=node.lineno), CONCAT)
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return _filter(node.node, SLICE, [b or nodes.Const(None) for b in bounds])
    elif isinstance(node, (nodes.List, nodes.Dict)) or _is_value_tuple(node):
        if not all(isinstance(child, nodes.Const) for child in node.iter_child_nodes()):
            return _filter(node, BUILT)
    elif isinstance(node, nodes.Compare):
        for operand in node.ops:
            operand.expr = _costed(operand.expr)
    return node


def _is_value_tuple(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Tuple) and node.ctx == "load"


def _costed(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _filter(node, COST)


def _tick(node: nodes.Node) -> nodes.Filter:
    return _filter(nodes.Const(True, lineno=node.lineno), TICK)


def _filter(node: nodes.Node, name: str, args: list[nodes.Expr] | None = None) -> nodes.Filter:
    return nodes.Filter(node, name, args or [], [], None, None, lineno=node.lineno)
