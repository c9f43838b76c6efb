"""Hundreds of requests at once to several processes of a service, and what each of them was told."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle

import httpx

from chassis.testing.live import LiveService

ANSWER_TIMEOUT_S = 120  # two hundred at once are served by what cores there are


class _InTurn(httpx.AsyncHTTPTransport):
    """Gives each request to the next process, over a connection of its own."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(limits=httpx.Limits(max_connections=None))
        self._ports = cycle(httpx.URL(url).port for url in urls)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=next(self._ports))
        return await super().handle_async_request(request)


@asynccontextmanager
async def crowd_before(*processes: LiveService) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests all arrive at once, at the processes in turn."""
    urls = [process.url for process in processes]
    async with httpx.AsyncClient(base_url=urls[0], timeout=ANSWER_TIMEOUT_S, transport=_InTurn(urls)) as client:
        yield client


def told(answers: Sequence[httpx.Response]) -> Counter[int | str]:
    """How often which status of success or which problem's code was answered; a refusal that is no clean 409 fails the test."""
    return Counter(answer.status_code if answer.is_success else _code(answer) for answer in answers)


def _code(answer: httpx.Response) -> str:
    problem = answer.json()
    code: str = problem["code"]
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert (answer.status_code, problem["status"]) == (409, 409), answer.text
    assert problem["type"] == f"https://vouajudar.org/problems/{code}", answer.text
    return code
