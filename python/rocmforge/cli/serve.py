"""`rocmforge serve`: the HTTP server."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from rocmforge.cli.command import MODEL_HELP, JsonOption
from rocmforge.cli.terminal import note, write_json


def _option(name: str, help_: str, metavar: str | None = None, short: str | None = None) -> Any:
    names = [name] if short is None else [name, short]
    return typer.Option(*names, metavar=metavar, help=help_, show_default=False)


def serve(
    model: Annotated[str | None, _option("--model", MODEL_HELP, "M", "-m")] = None,
    config: Annotated[
        Path | None, _option("--config", "A TOML file of settings, or $ROCMFORGE_CONFIG.", "F")
    ] = None,
    host: Annotated[str | None, _option("--host", "Address; 127.0.0.1 by default.", "H")] = None,
    port: Annotated[int | None, _option("--port", "8080 by default; 0: any free.", "N")] = None,
    api_key_file: Annotated[
        Path | None, _option("--api-key-file", "One key a line; or $ROCMFORGE_API_KEY.", "F")
    ] = None,
    insecure_no_auth: Annotated[
        bool | None, typer.Option("--insecure-no-auth", help="Let others in without a key.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None, _option("--allowed-host", "A name clients call the server by.", "H")
    ] = None,
    tls_cert: Annotated[
        Path | None, _option("--tls-cert", "Speak TLS, with this certificate (PEM).", "F")
    ] = None,
    tls_key: Annotated[
        Path | None, _option("--tls-key", "The certificate's key (PEM).", "F")
    ] = None,
    share_prefix_cache: Annotated[
        bool | None,
        typer.Option("--share-prefix-cache", help="Share prefixes between API keys."),
    ] = None,
    context_dir: Annotated[
        Path | None, _option("--context-dir", "Keep documents here, a file a key.", "D")
    ] = None,
    max_num_seqs: Annotated[
        int | None, _option("--max-num-seqs", "Requests at once; 64 by default.", "N")
    ] = None,
    max_queue: Annotated[
        int | None, _option("--max-queue", "Requests that wait; 64 by default.", "N")
    ] = None,
    drain: Annotated[
        float | None, _option("--drain", "Seconds requests go on after SIGTERM; 30.", "S")
    ] = None,
    docs: Annotated[
        bool | None, typer.Option("--docs", help="Serve the OpenAPI document at /openapi.json.")
    ] = None,
    log_level: Annotated[
        str | None, _option("--log-level", "debug, info, warning or error.", "L")
    ] = None,
    device: Annotated[
        str | None, _option("--device", "auto, cpu, gpu, hip:N, cuda:N or host:N.", "D")
    ] = None,
    threads: Annotated[
        int | None, _option("--threads", "CPU threads; one a core by default.", "N", "-t")
    ] = None,
    ctx: Annotated[
        int | None, _option("--ctx", "Tokens of a sequence; the model's most.", "N", "-c")
    ] = None,
    gpu_layers: Annotated[
        int | None, _option("--gpu-layers", "Layers on the GPU, from the last.", "N")
    ] = None,
    require_gpu: Annotated[
        bool | None, typer.Option("--require-gpu", help="Fail if a layer would run on the CPU.")
    ] = None,
    kv_dtype: Annotated[
        str | None, _option("--kv-dtype", "f16, bf16, q8_0 or f32: the KV cache.", "T")
    ] = None,
    memory_fraction: Annotated[
        float | None,
        _option("--memory-fraction", "Of free memory: the KV cache; on a GPU, all.", "X"),
    ] = None,
    deterministic: Annotated[
        bool | None, typer.Option("--deterministic", help="Bit-equal results, whatever else runs.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a model over HTTP, with OpenAI's API.

    The API is at /v1, a chat page at /, metrics at /metrics.

    Flags come before environment variables (ROCMFORGE_PORT and so on), these before the file.
    """
    # Before anything is begun there is nothing to end; see InferenceServer for what follows.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    from rocmforge import InferenceServer, ServerSettings
    from rocmforge.engine.rights import give_up_rights

    settings = ServerSettings.load(
        config,
        model=model,
        host=host,
        port=port,
        api_key_file=api_key_file,
        insecure_no_auth=insecure_no_auth,
        allowed_hosts=allowed_host,
        tls_cert=tls_cert,
        tls_key=tls_key,
        share_prefix_cache=share_prefix_cache,
        context_dir=context_dir,
        max_num_seqs=max_num_seqs,
        max_queue=max_queue,
        drain_s=drain,
        docs=docs,
        log_level=log_level,
        device=device,
        threads=threads,
        ctx=ctx,
        gpu_layers=gpu_layers,
        require_gpu=require_gpu,
        kv_dtype=kv_dtype,
        memory_fraction=memory_fraction,
        deterministic=deterministic,
    )

    give_up_rights()

    def announce(url: str) -> None:
        if as_json:
            write_json({"url": url, "pid": os.getpid()})
        else:
            note(f"serving at {url}")

    InferenceServer(settings).run(announce)
