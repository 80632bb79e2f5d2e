"""What may be sent to the page, by any way."""

import asyncio
import os
import zlib
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from pipeline.bodies import BodyLimit, bounded
from pipeline.texts import say
from pipeline.units import MEBIBYTE

Answer = TypeVar("Answer")

held: list[int] = []  # bytes that reached the program


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Do it in another thread: this one may be running Playwright's event loop."""
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(asyncio.run, work).result()


async def read_json(request: Request) -> JSONResponse:
    body = await request.body()
    held.append(len(body))
    return JSONResponse({"bytes": len(body)})


async def read_upload(request: Request) -> PlainTextResponse:
    count = 0
    async for piece in request.stream():
        count += len(piece)
    return PlainTextResponse(str(count))


def post(address: str, content, **headers: str) -> httpx.Response:
    """What the program behind limits of 2 and 1 MiB answers."""
    program = Starlette(routes=[Route(path, read, methods=["POST"]) for path, read in ADDRESSES.items()])
    limited = BodyLimit(program, upload_mebibytes=2, body_mebibytes=1)

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(limited)
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            return await client.post(address, content=content, headers=headers)

    held.clear()
    return run(send())


ADDRESSES = {
    "/gradio_api/queue/join": read_json,
    "/gradio_api/mcp/": read_json,
    "/gradio_api/call/render": read_json,
    "/gradio_api/upload": read_upload,
}


def unannounced(num_mebibytes: int):
    """A body whose length nobody tells."""

    async def pieces():
        for _ in range(num_mebibytes):
            yield bytes(MEBIBYTE)

    return pieces()


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_fits_passes_unchanged(address):
    assert post(address, os.urandom(MEBIBYTE)).status_code == 200


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("language", ["en", "fr"])
def test_what_is_too_large_is_refused_in_words_before_it_is_held(address, language):
    limit = 2 if address.endswith("upload") else 1
    for content in (bytes(4 * MEBIBYTE), unannounced(4)):
        answer = post(address, content, **{"accept-language": language})
        assert (answer.status_code, held) == (413, [])
        assert answer.text == say("BodyTooLarge", language, limit_mebibytes=limit)


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1e9", "twelve"])
def test_a_length_that_is_no_length_is_refused(length):
    answer = post("/gradio_api/queue/join", b"", **{"content-length": length})
    assert answer.status_code == 413


def test_trouble_of_the_program_stays_its_own():
    async def fail(scope, receive, send):
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own"):
        run(
            BodyLimit(fail, upload_mebibytes=1)({"type": "http", "path": "/", "headers": []}, None, None)  # type: ignore[arg-type]
        )


async def send_much(scope, receive, send):
    """What unpacks to 128 MiB, or as many MiB as the address says."""
    packed = scope["path"] == "/packed"
    headers = [(b"content-encoding", b"gzip")] if packed else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    content = zlib.compress(bytes(2**27), wbits=31) if packed else bytes(int(scope["path"][1:]) * MEBIBYTE)
    await send({"type": "http.response.body", "body": content})


def fetch(address: str) -> httpx.Response:
    """What comes from an address by a transport of 1 MiB."""

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=bounded(httpx.ASGITransport, 1)(send_much)) as client:
            return await client.get(f"http://far{address}")

    return run(get())


def test_no_more_is_fetched_than_may_be():
    assert len(fetch("/1").content) == MEBIBYTE
    with pytest.raises(httpx.ReadError, match="1 MiB"):
        fetch("/2")


def test_what_is_fetched_is_not_unpacked():
    assert fetch("/packed").content[:2] == b"\x1f\x8b"
