"""What may be sent to the page, by any way."""

import asyncio
import os

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from pipeline.bodies import BodyLimit
from pipeline.texts import say
from pipeline.units import MEBIBYTE

held: list[int] = []  # bytes that reached the program


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
    return asyncio.run(send())


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
        asyncio.run(
            BodyLimit(fail, upload_mebibytes=1)({"type": "http", "path": "/", "headers": []}, None, None)  # type: ignore[arg-type]
        )
