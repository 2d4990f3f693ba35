"""Who may look: on loopback whoever is on this machine, elsewhere who knows the token."""

import hmac
import re
from hashlib import sha256
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.middleware.base import RequestResponseEndpoint

COOKIE = "hailtime_page"
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?")
HEADERS = {
    # Plotly writes styles into the page and draws heat maps as images from memory; nothing comes from another host
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Hailtime</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="/files/page.css">
<main class="alone"><h1>This page needs its token</h1><p>{words}</p>
<form method="post" action="/token"><label>Token <input name="token" type="password" autofocus
autocomplete="current-password"></label> <button>Show</button></form></main></html>"""


def guard(app: FastAPI, token: str | None) -> None:
    """Adds the headers to every answer, and lets in who may look.

    - token: in `Authorization: Bearer ...`, or given once in a form, which leaves a cookie. None: nobody is asked,
      and only names of loopback are answered, so that no other site's page can ask through a reader's browser.
    """

    @app.middleware("http")
    async def check(request: Request, call_next: RequestResponseEndpoint) -> Response:
        answer = refusal(request, token) or await call_next(request)
        answer.headers.update(HEADERS)
        return answer

    if token is not None:

        @app.post("/token", include_in_schema=False)
        async def give(request: Request) -> Response:
            given = parse_qs((await request.body())[:4096].decode(errors="replace")).get("token", [""])[0]
            if not _is_same(given, token):
                return HTMLResponse(_FORM.format(words="That was another one."), status_code=401)
            answer = RedirectResponse("/", status_code=303)
            is_https = request.url.scheme == "https"
            answer.set_cookie(COOKIE, _pass(token), httponly=True, samesite="strict", secure=is_https)
            return answer


def refusal(request: Request, token: str | None) -> Response | None:
    """The answer to who may not look; None for who may."""
    if token is None:
        is_known = _LOOPBACK.fullmatch(request.headers.get("host", ""))
        return None if is_known else PlainTextResponse("this page answers on this machine's own name only", 400)
    path = request.url.path
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    knows = _is_same(bearer, token) or _is_same(request.cookies.get(COOKIE, ""), _pass(token))
    if knows or path in ("/token", "/files/page.css"):
        return None
    if path == "/":
        return HTMLResponse(_FORM.format(words="It is in the monitor's settings (token_env)."), status_code=401)
    return PlainTextResponse("this page needs its token: Authorization: Bearer TOKEN", status_code=401)


def _pass(token: str) -> str:
    """What a browser keeps: it opens the page, and does not tell the token."""
    return hmac.new(token.encode(), b"hailtime page", sha256).hexdigest()


def _is_same(given: str, wanted: str) -> bool:
    """In a time that tells nothing of how much was right."""
    return hmac.compare_digest(given.encode(), wanted.encode())
