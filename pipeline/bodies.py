"""Bounds what may be sent to the page, and what it may be told to fetch, before it is held in memory. Knows no page.

Gradio's own limit is one for uploads: a file in a JSON body (a `data:` address, by the API or MCP) and one that is
fetched from an address pass it by.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from pipeline.texts import say
from pipeline.units import MEBIBYTE

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

UPLOADS = ("/upload", "/upload/")  # ends of the addresses that write what comes to disk
MAX_BODY_MEBIBYTES = 32  # of any other; it is held whole, four times over: a picture of 23 MiB as a `data:` address
FORM_BYTES = MEBIBYTE  # of an upload beside its file


class BodyLimit:
    """Answers 413 to a body that is too large: at once where its length is told, else when it has come so far.

    Args:
        app: What is protected.
        upload_mebibytes: Of all files of one upload.
        body_mebibytes: Of any other body.
    """

    def __init__(self, app: Any, *, upload_mebibytes: int, body_mebibytes: int = MAX_BODY_MEBIBYTES) -> None:
        self.app, self.upload_mebibytes, self.body_mebibytes = app, upload_mebibytes, body_mebibytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_upload = scope["path"].endswith(UPLOADS)
        mebibytes = self.upload_mebibytes if is_upload else self.body_mebibytes
        limit = mebibytes * MEBIBYTE + is_upload * FORM_BYTES
        headers = dict(scope["headers"])
        told = headers.get(b"content-length", b"0")
        num_come, is_started = 0, False
        is_over = len(told) > len(str(limit)) or not told.isdigit() or int(told) > limit

        async def counted() -> Message:
            nonlocal num_come, is_over
            message: Message = {"type": "http.disconnect"} if is_over else await receive()
            num_come += len(message.get("body", b""))
            is_over = is_over or num_come > limit
            return {"type": "http.disconnect"} if is_over else message

        async def answered(message: Message) -> None:
            nonlocal is_started
            if is_over and not is_started:  # what the program makes of half a body is nobody's concern
                return
            is_started = True
            await send(message)

        if not is_over:
            try:
                await self.app(scope, counted, answered)
            except Exception:
                if not is_over:
                    raise
        if is_over and not is_started:
            language = "fr" if headers.get(b"accept-language", b"").lower().startswith(b"fr") else "en"
            text = say("BodyTooLarge", language, limit_mebibytes=mebibytes).encode()
            kind = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 413, "headers": kind})
            await send({"type": "http.response.body", "body": text})


def bounded(transport: type, mebibytes: int) -> type:
    """A transport of httpx that breaks off a longer answer, and unpacks none.

    Args:
        transport: The one that is bounded, a class.
        mebibytes: Of an answer.
    """
    import httpx

    class Bounded(httpx.AsyncByteStream):
        def __init__(self, stream: httpx.AsyncByteStream) -> None:
            self.stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = mebibytes * MEBIBYTE
            async for piece in self.stream:
                left -= len(piece)
                if left < 0:
                    raise httpx.ReadError(f"more than {mebibytes} MiB")
                yield piece

        async def aclose(self) -> None:
            await self.stream.aclose()

    class BoundedTransport(transport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            request.headers["accept-encoding"] = "identity"
            response = await super().handle_async_request(request)
            response.headers.pop("content-encoding", None)
            response.stream = Bounded(response.stream)
            return response

    return BoundedTransport
