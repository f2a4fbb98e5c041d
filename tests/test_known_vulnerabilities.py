"""Which test stands against which hole that servers of this kind have had.

A row names an advisory, or a class of them, and the tests that fail if it were open here. Model
files have a list of their own (tests/gguf_bytes/catalogue.py).
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

HOSTILE = "server/test_hostile_requests.py::test_hostile_requests_are_refused_and_cost_nobody_else_anything"
REFUSED = "server/test_refusals.py::test_a_wrong_value_is_refused_by_name"
FOREIGN = "server/test_isolation.py::test_no_endpoint_takes_templates_parsers_tensors_paths_or_ids"
FLOORS = "test_code_bans.py::test_dependencies_have_the_versions_that_close_known_holes"
BANS = "test_code_bans.py::test_nothing_that_runs_or_unpickles_data_is_used"
SANDBOX = "tokenizer/test_chat_template_hostile.py::test_no_payload_reaches_out_of_the_sandbox"
ONE_SANDBOX = (
    "test_code_bans.py::test_templates_are_known_to_one_package_and_rendered_in_its_sandbox_alone"
)
GRAMMARS = "engine/test_grammar.py::test_no_grammar_takes_long_or_ends_the_process"
ABORTED = (
    "server/test_aborted_streams.py::"
    "test_aborted_streams_leave_no_block_task_thread_or_descriptor_behind"
)
SIMULATION = "engine/test_simulation.py::test_invariants_hold_after_every_step"

# Templates, grammars, expressions, tokenizers.
TEXTS: dict[str, list[str]] = {
    "CVE-2024-34359: a file's template rendered outside of a sandbox": [SANDBOX, ONE_SANDBOX],
    "CVE-2026-5760, CVE-2024-2952: a second way to render without the sandbox": [ONE_SANDBOX],
    "CVE-2024-56326, CVE-2025-27516: ways out of the sandbox": [SANDBOX, FLOORS],
    "CVE-2026-115911: a template without bounds on time and output": [
        "tokenizer/test_chat_template_hostile.py::test_every_bomb_ends_soon",
        "tokenizer/test_chat_template_hostile.py::test_every_bomb_is_ended_before_it_holds_much",
        "server/test_isolation.py::test_writing_and_encoding_a_prompt_holds_nobody_up",
    ],
    "CVE-2025-62426, CVE-2026-115918: template options that override what is fixed": [
        FOREIGN,
        REFUSED,
    ],
    "CVE-2025-48943, CVE-2025-48942, CVE-2026-105757: a schema or expression ends the engine": [
        "engine/test_structured_output.py::test_a_wrong_grammar_is_refused_before_anything_runs",
        "server/test_openai_client.py::test_a_schema_that_cannot_be_followed_is_refused",
        HOSTILE,
    ],
    "CVE-2026-55574: nested quantifiers explode a grammar": [GRAMMARS, HOSTILE],
    "CVE-2025-71379: backtracking in parsers of tools, in a tokenizer's expressions": [
        "test_code_bans.py::test_no_text_of_clients_or_models_is_matched_by_backtracking",
        (
            "server/test_isolation.py::"
            "test_the_time_to_read_an_answer_grows_with_its_length_and_no_faster"
        ),
        "tokenizer/test_pre_tokenizers.py::test_time_is_linear_in_the_text",
        "tokenizer/test_pre_tokenizers.py::test_unknown_name_is_refused_with_the_known_ones",
    ],
    "CVE-2025-29770, GHSA-hf3c-wxg2-49q9: a cache of grammars without bounds": [
        "engine/test_grammar.py::test_the_cache_keeps_what_was_used_last_within_both_bounds",
    ],
    "llama.cpp 6492, 7810, 11591, 25895, 25923: grammars that crash, or are refused in vain": [
        GRAMMARS,
        "engine/test_grammar.py::test_large_valid_schemas_work",
    ],
    "CVE-2026-107183: a parser that the client supplies": [FOREIGN],
    "CVE-2026-61539: a model's text evaluated": [
        BANS,
        "server/test_isolation.py::test_a_call_that_could_not_be_written_is_a_text",
    ],
}

# Server, scheduler, engine.
SERVER: dict[str, list[str]] = {
    "CVE-2026-34756, CVE-2024-8939, CVE-2026-73559: n, best_of, prompts without bounds": [
        REFUSED,
        HOSTILE,
        "server/test_json_body.py::test_one_mistake_made_many_times_costs_as_little_as_once",
    ],
    "CVE-2024-8768, CVE-2026-44223, PYSEC-2026-4350, CVE-2026-105756: one request ends the engine": [
        HOSTILE,
        "server/test_refusals.py::test_every_sampling_field_refuses_what_it_does_not_take",
        "engine/test_engine.py::test_a_row_without_a_token_ends_its_request_alone",
        (
            "engine/test_structured_output.py::"
            "test_a_grammar_that_fails_on_the_way_ends_its_request_alone"
        ),
        "engine/test_wire.py::test_parameters_out_of_range_are_refused_on_arrival",
    ],
    "CVE-2026-114051: the engine is dead and health is good": [
        (
            "server/test_isolation.py::"
            "test_health_is_bad_while_the_engine_hangs_or_is_gone_and_good_again"
        ),
        (
            "engine/test_supervisor.py::"
            "test_an_engine_that_hangs_in_a_step_is_noticed_within_5_seconds_and_replaced"
        ),
    ],
    "CVE-2026-93989, CVE-2026-93840: token ids beyond the logits alter others' logits": [
        "engine/test_sampling_batch.py::test_ids_outside_of_the_logits_are_refused",
        "engine/test_grammar.py::test_logits_may_be_narrower_than_the_vocabulary",
        HOSTILE,
    ],
    "CVE-2026-21869: a negative size from JSON reaches the core": [
        FOREIGN,
        "model/test_loader.py::test_a_batch_that_points_outside_is_refused_before_anything_runs",
    ],
    "CVE-2026-43631, CVE-2026-43632: a vocabulary is read while its model is unloaded": [
        "server/test_isolation.py::test_no_route_changes_the_model_or_runs_anything",
    ],
    "llama.cpp 10380, 25960, 17071, 9170, 7038: an abort that a request can reach": [
        HOSTILE,
        "server/test_app.py::test_a_bug_is_answered_as_an_error_without_its_words",
        "engine/test_engine.py::test_lack_of_memory_ends_what_runs_and_nothing_else",
    ],
    "llama.cpp 17355, 17463: sizes of 32 bits": [
        "server/test_refusals.py::test_a_body_over_the_limit_is_refused_before_it_is_read",
        "server/test_limits.py::test_all_bodies_together_are_bounded_and_small_ones_always_taken",
    ],
    "llama.cpp 27427: recursion in the parser of chats": [
        "server/test_isolation.py::test_a_call_of_any_depth_is_a_call_or_a_text",
        "server/test_json_body.py::test_a_body_may_nest_64_deep_and_no_deeper",
        "server/test_prompts.py::test_arguments_that_no_template_could_write_stay_a_text",
    ],
    "llama.cpp 27604, vLLM 57061, 14326, lmdeploy 1788, Rapid-MLX 1759: cancelling leaks or hangs": [
        ABORTED,
        SIMULATION,
        "engine/test_async_llm.py::test_cancellation_at_any_moment_leaves_nothing_behind",
        "engine/test_supervisor.py::test_a_cancelled_request_leaves_nothing_behind",
        "server/test_disconnects.py::test_a_client_that_leaves_stops_costing",
        "server/test_shutdown.py::test_at_the_drain_limit_the_rest_ends_with_an_error",
        "server/test_shutdown.py::test_clients_that_do_not_get_on_do_not_keep_the_server",
        "server/test_sigterm.py::test_sigterm_at_any_moment_ends_server_and_engine",
    ],
    "vLLM 46283, 49674, 21793: blocks held for ever, preemption without progress": [
        SIMULATION,
        "engine/test_scheduler.py::test_everyone_ends_in_a_pool_that_holds_one_at_a_time",
        "engine/test_scheduler.py::test_what_exceeds_the_whole_pool_is_refused_at_once",
        (
            "engine/test_engine.py::"
            "test_a_request_that_waits_too_long_for_its_first_step_ends_and_no_other"
        ),
    ],
    "CVE-2025-25183, CVE-2025-46570: prefixes that collide, or tell what others sent": [
        "engine/test_block_manager.py::test_digests_are_a_sha256_chain_from_the_namespace",
        "engine/test_block_manager.py::test_equal_digests_are_told_apart_by_their_tokens",
        "engine/test_block_manager.py::test_namespaces_do_not_share",
        "server/test_guard.py::test_keys_do_not_share_prefixes",
    ],
    "vllm-mlx 385, llama.cpp 27148: a prefix cache gives a client another's answer": [
        "engine/test_simulation.py::test_digest_collisions_change_no_token",
        "server/test_openai_client.py::test_two_clients_at_once_get_what_each_gets_alone",
        "server/test_isolation.py::test_requests_of_one_id_get_their_own_answers",
    ],
    "CVE-2026-105755: a client's X-Request-Id is a key": [
        "server/test_isolation.py::test_requests_of_one_id_get_their_own_answers",
    ],
    "CVE-2025-48956: a huge header": [
        HOSTILE,
        "server/test_refusals.py::test_odd_requests_get_a_clear_status",
        "server/test_connection.py::test_a_request_that_does_not_get_complete_is_cut_off",
    ],
    "CVE-2025-59425: keys compared in a time that tells of them": [
        "server/test_isolation.py::test_all_keys_are_compared_in_constant_time",
    ],
    "CVE-2026-48746, CVE-2026-48710, CVE-2026-49468: the Host header opens what a key closes": [
        "server/test_guard.py::test_a_foreign_host_header_is_refused",
        "server/test_guard.py::test_a_path_that_resembles_an_open_one_is_closed",
        FLOORS,
    ],
    "vLLM's documentation: keys for /v1 alone": [
        "server/test_guard.py::test_every_route_but_the_open_ones_needs_a_key",
    ],
    "CVE-2025-43859: a chunk's end is not checked": [FLOORS, HOSTILE],
    "CVE-2023-30798, CVE-2023-29159, CVE-2025-62727, CVE-2020-7694, CVE-2020-7695: frameworks": [
        BANS,
        FLOORS,
        HOSTILE,
        "server/test_guard.py::test_the_log_has_ids_and_counts_but_no_keys_and_no_content",
    ],
    "CVE-2026-24779, CVE-2026-25960, CVE-2026-34753, CVE-2026-0599, CVE-2026-100650, "
    "CVE-2026-130686: the server fetches what a client names": [BANS, FOREIGN, HOSTILE],
    "CVE-2026-22773, CVE-2026-22778, CVE-2026-5497: addresses in the text of an error": [
        HOSTILE,
        "server/test_refusals.py::test_errors_say_nothing_of_the_inside",
        "engine/test_logs.py::test_message_of_an_error_is_not_logged",
    ],
    "CVE-2025-62164, CVE-2026-56340, CVE-2026-73557: tensors from clients": [FOREIGN, BANS],
}


def names_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", [*TEXTS, *SERVER], ids=lambda row: row.split(":")[0])
def test_a_known_hole_has_tests_that_exist(row: str) -> None:
    names = {**TEXTS, **SERVER}[row]
    assert names
    assert len(set(names)) == len(names)
    for name in names:
        file, _, function = name.partition("::")
        assert function in names_in(TESTS / file), name


def test_an_advisory_stands_in_one_row() -> None:
    ids = [found for row in [*TEXTS, *SERVER] for found in re.findall(r"CVE-\d+-\d+", row)]
    assert len(ids) == len(set(ids))
    assert len(ids) > 40
