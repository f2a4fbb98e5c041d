"""The OpenAPI document: true to the routes, and what a tool makes of it does no harm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from served import Served, serving

from rocmforge.server.app import ROUTERS
from rocmforge.server.openapi import document

DOCUMENT = document(ROUTERS, "0")
OPERATIONS = [(path, method) for path, item in DOCUMENT["paths"].items() for method in item]
# A short context bounds what an accepted request can cost.
TINY = ("--ctx", "32", "--memory-fraction", "0.05", "--threads", "1", "--docs")
# Of each operation that takes a body, right and wrong ones each; `make requests` has 1,000.
EXAMPLES = int(os.environ.get("ROCMFORGE_OPENAPI_EXAMPLES", "50"))


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("documented")
    with serving(folder, *TINY, "--context-dir", str(folder / "context")) as served:
        yield served


def test_the_document_is_served_only_where_it_is_asked_for(
    server: Served, documented: Served
) -> None:
    assert server.get("/openapi.json").status_code == 404
    told = documented.get("/openapi.json").json()
    assert {**told, "info": 0} == {**DOCUMENT, "info": 0}


def test_the_document_has_every_route_and_every_parameter() -> None:
    routes = [route for router in ROUTERS for route in router.routes]
    assert all(isinstance(route, APIRoute) for route in routes)
    expected = {(r.path, m.lower()) for r in routes if isinstance(r, APIRoute) for m in r.methods}
    assert set(OPERATIONS) == expected
    for path, method in OPERATIONS:
        operation = DOCUMENT["paths"][path][method]
        assert ("requestBody" in operation) == (method == "post")
        assert {"200", "4XX", "5XX"} <= set(operation["responses"])
        assert ("security" in operation) == (path not in ("/", "/health", "/ready"))
    schemas = DOCUMENT["components"]["schemas"]
    assert {"messages", "tools", "temperature", "min_p"} <= set(
        schemas["ChatRequest"]["properties"]
    )
    assert schemas["ChatRequest"]["additionalProperties"] is False
    assert schemas["CompletionRequest"]["required"] == ["prompt"]
    assert schemas["JsonSchema"]["required"] == ["schema"]
    assert not any(reference not in schemas for reference in references(DOCUMENT))


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rsplit("/", 1)[1]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.timeout(300 + 2 * EXAMPLES)
@pytest.mark.parametrize(
    ("path", "method", "mode"),
    # Nothing can be wrong with a path.
    [
        (*o, m)
        for o in OPERATIONS
        for m in ("POSITIVE", "NEGATIVE")
        if o[1] == "post" or m[0] == "P"
    ],
)
def test_requests_made_from_the_document_get_the_answers_that_it_tells(
    documented: Served, path: str, method: str, mode: str
) -> None:
    told = schemathesis.openapi.from_dict(DOCUMENT)
    told.config.update(base_url=documented.url)
    operation = told[path][method.upper()]
    checks = [
        schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.response_schema_conformance,
    ]

    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
    @settings(
        max_examples=EXAMPLES if method == "post" else 5,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        response = case.call(timeout=20)
        assert response.status_code < 500 or response.status_code == 503
        assert mode == "POSITIVE" or response.status_code >= 400
        assert "Traceback" not in response.text
        case.validate_response(response, checks=checks)

    ask()


def test_after_all_that_the_server_is_idle_and_has_not_failed_once(documented: Served) -> None:
    assert documented.post("/v1/completions", {"prompt": "a", "max_tokens": 2}).status_code == 200
    documented.wait_until_idle()
    assert not [e for e in documented.log_entries() if "traceback" in e]
    assert not [e for e in documented.log_entries() if e.get("status", 0) >= 500]
