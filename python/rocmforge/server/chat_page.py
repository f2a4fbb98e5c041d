"""/: a page to chat on. It is static and open to all; what it asks for needs the key."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from rocmforge.server.openapi import described

router = APIRouter()


@router.get("/", openapi_extra=described(media_type="text/html"))
async def chat_page() -> Response:
    page, policy = _page()
    return HTMLResponse(page, headers={"content-security-policy": policy})


@cache
def _page() -> tuple[str, str]:
    """The page, and a policy that lets its own script run and nothing else."""
    page = resources.files("rocmforge.server").joinpath("chat_page.html").read_text("utf-8")
    digests = {
        tag: base64.b64encode(
            hashlib.sha256(page.split(f"<{tag}>")[1].split(f"</{tag}>")[0].encode()).digest()
        ).decode()
        for tag in ("script", "style")
    }
    policy = (
        f"default-src 'none'; connect-src 'self'; script-src 'sha256-{digests['script']}'; "
        f"style-src 'sha256-{digests['style']}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return page, policy
