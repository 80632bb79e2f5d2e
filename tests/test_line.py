"""The waiting line: nobody overtakes, nobody is forgotten, and no more work goes on than may."""

import threading
import time
from contextlib import ExitStack

import pytest

from pipeline.errors import LineFull
from pipeline.line import Line
from pipeline.texts import say

SOON = 5.0  # seconds in which another thread surely has begun


def test_so_many_begin_at_once_and_the_others_are_numbered():
    line = Line(at_once=2, longest=3)
    with line.place() as one, line.place() as two, line.place() as three, line.place() as four:
        assert [place.number for place in (one, two, three, four)] == [0, 0, 1, 2]


def test_who_came_first_is_served_first_whoever_gives_up_meanwhile():
    line = Line(at_once=1, longest=9)
    with ExitStack() as stack:
        working = stack.enter_context(ExitStack())
        working.enter_context(line.place())
        places = [ExitStack() for _ in range(3)]
        first, second, third = (stack.enter_context(place).enter_context(line.place()) for place in places)
        places[1].close()
        assert (first.number, third.number) == (1, 2)
        working.close()
        assert (first.number, third.number) == (0, 1)
        places[0].close()
        assert third.number == 0 and second.number == 0


def test_one_too_many_is_told_how_many_wait_in_both_languages():
    line = Line(at_once=1, longest=2)
    with line.place(), line.place(), line.place():
        with pytest.raises(LineFull) as refused, line.place():
            pass
        assert "2 visitors" in refused.value.text("en") and "2 visiteurs" in refused.value.text("fr")
    with line.place() as later:
        assert later.number == 0


def test_a_turn_that_ends_by_an_error_gives_its_place_on():
    line = Line(at_once=1, longest=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), line.place():
            raise ZeroDivisionError
    with line.place() as place:
        assert place.number == 0


def test_the_wait_is_told_from_how_long_others_took(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    line = Line(at_once=2, longest=9)
    with line.place(), line.place(), line.place() as place:
        assert place.seconds_left is None  # nobody has finished yet
    with line.place():
        clock[0] += 9.0
    mean = (9.0 + 0.0 + 0.0) / 3  # with the two above, who took no time; the third one left before its turn
    with line.place():
        clock[0] += 1.0
        with line.place(), ExitStack() as stack:
            waiting = [stack.enter_context(line.place()) for _ in range(3)]
            lefts = [place.seconds_left for place in waiting]
            assert lefts == pytest.approx([mean - 1.0, mean, 2 * mean - 1.0])
            step = waiting[2].step
            assert say(step.stage, "en", done=step.done) == "Number 3 in line" and step.seconds_left == lefts[2]
            clock[0] += 60.0  # longer than forecast: any moment now
            assert waiting[0].seconds_left == 0


def test_a_waiting_thread_wakes_when_its_turn_has_come():
    line, begun = Line(at_once=1, longest=1), threading.Event()

    def wait() -> None:
        with line.place() as place:
            while place.number:
                place.wait(10 * SOON)
            begun.set()

    with line.place():
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not begun.wait(0.1)
    assert begun.wait(SOON)
    waiter.join()


def test_many_threads_never_work_more_than_may():
    line, at_work, most = Line(at_once=3, longest=100), [0], [0]
    lock = threading.Lock()

    def work(number: int) -> None:
        with line.place() as place:
            if number % 3 == 0:
                return  # gives up, waiting or not
            while place.number:
                place.wait(1.0)
            with lock:
                at_work[0] += 1
                most[0] = max(most[0], at_work[0])
            time.sleep(0.002)
            with lock:
                at_work[0] -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert not any(thread.is_alive() for thread in threads)
    assert 1 < most[0] <= 3
