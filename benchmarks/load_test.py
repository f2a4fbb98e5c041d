"""Load on a server with OpenAI's completions: tokens/s, time to first token, time between tokens.

    rocmforge serve --model M.gguf --port 8080 &
    python benchmarks/load_test.py --url http://127.0.0.1:8080 --json results.json

Each client streams one completion after another. All prompts of a concurrency begin with the same
tokens. `compare_server.py` does this to two servers in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from serving.load import Load, measure
from side_by_side.machine import command, machine


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--api-key", default=os.environ.get("ROCMFORGE_API_KEY", ""))
    parser.add_argument("--concurrency", default="1,4,16,64")
    parser.add_argument("--requests", type=int, default=32, help="at each concurrency, or more")
    parser.add_argument("--prefix-tokens", type=int, default=512, help="shared by all prompts")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--server-pid", type=int, action="append", help="for its CPU time")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    now = datetime.datetime.now(datetime.timezone.utc)
    parts = urlsplit(options.url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    rows = []
    for seed, level in enumerate(map(int, options.concurrency.split(","))):
        load = Load(level, options.requests, options.prefix_tokens, options.max_tokens, seed)
        rows.append(asyncio.run(measure(address, load, options.api_key, options.server_pid)))
        print(json.dumps({k: round(v, 6) if v else v for k, v in rows[-1].items()}), flush=True)
    if options.json:
        report = {
            "date": now.isoformat(timespec="seconds"),
            "command": command(),
            "machine": machine(),
            "prefix_tokens": options.prefix_tokens,
            "max_tokens": options.max_tokens,
            "results": rows,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
