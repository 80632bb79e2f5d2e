"""Four visitors at once: each gets the own clip, and nobody else's; who cancels or leaves, leaves nothing."""

import contextlib
from dataclasses import replace

import httpx

from tests.load.run import LONG_SECONDS, TINY_SECONDS, num_at_work, together
from tests.load.visitors import Visitor
from tests.server import Server, wait_until

VISITORS = (3, 17, 42, 60)


def test_visitors_at_once_get_their_own_clips_and_a_strangers_would_be_known(server: Server, tmp_path):
    visits = together([Visitor(server.url, number, tmp_path, TINY_SECONDS) for number in VISITORS])
    assert [visit.refusal for visit in visits] == [""] * len(VISITORS)
    assert [leak for visit in visits for leak in visit.leaks] == []
    assert len({visit.clip for visit in visits}) == len(VISITORS)
    mixed_up = replace(visits[0], clip=visits[1].clip)
    assert len(mixed_up.leaks) == 2  # its mark and its pitch
    assert server.has_cleared()


def test_who_cancels_or_closes_the_tab_frees_the_place_for_the_next(server: Server, tmp_path):
    going, staying = Visitor(server.url, 1, tmp_path, LONG_SECONDS), Visitor(server.url, 2, tmp_path, TINY_SECONDS)
    for _ in range(2):
        job = going.submit()
        assert wait_until(lambda: num_at_work(server) == 1, 30)
        with contextlib.suppress(httpx.TimeoutException):
            job.cancel()
        assert server.has_cleared()
    going.leave_after(1.0)
    assert server.has_cleared()
    made = staying.visit()
    assert made.clip and not made.leaks
