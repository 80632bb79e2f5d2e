"""The avatar engine on the page, with the rehearsal's tiny model: what is done is never lost, and Resume finds it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from pipeline.texts import TEXTS
from tests.browser.conftest import PHONE
from tests.browser.test_page import STATUS, give, make, plays, serious
from tests.conftest import SHORT_SECONDS
from tests.server import Server, serve, wait_until

pytest.importorskip("diffusers")
pytestmark = pytest.mark.browser

STEPS = 3
RENDER_MS = 240_000  # for a rehearsal on a crowded machine; a quiet one needs a tenth


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A page whose avatar engine rehearses, and which keeps its jobs under its own folder."""
    folder = tmp_path_factory.mktemp("rehearsal")
    with serve(folder, PORTRAIT_REHEARSAL="1", PORTRAIT_JOBS=str(folder / "jobs")) as running:
        yield running


def kept(server: Server) -> list[Path]:
    """Folders of jobs."""
    return [path for path in (server.folder.parent / "jobs").glob("*") if path.is_dir()]


def choose_avatar(page: Page) -> None:
    """The smallest and shortest clip there is."""
    page.locator("#engine input[value=avatar]").check()
    page.locator("#avatar-size input[value='256']").check()
    steps = page.locator("#steps input[type=number]")
    steps.fill(str(STEPS))
    steps.press("Tab")


def test_a_render_outlives_a_reload_and_a_cancel_and_is_resumed(open_page, server, keep, portrait_path, short_voice):
    """Start, reload in mid-render, resume, cancel, make a draft, resume, play; then there is nothing to resume."""
    page = open_page("fr-CA")
    page.set_default_timeout(RENDER_MS)
    resume, status = page.locator("#resume"), page.locator(STATUS)
    give(page, portrait_path, short_voice)
    choose_avatar(page)
    expect(resume).to_be_hidden()
    make(page)
    page.locator("#details").get_by_text(f"1 sur {STEPS}").wait_for()
    page.locator("#details img").wait_for()
    expect(resume).to_be_hidden()
    keep(page, "avatar_rendering_fr_desktop")

    page.reload()
    expect(status).to_have_text(TEXTS["PagePending"].fr, timeout=RENDER_MS)
    keep(page, "avatar_reloaded_fr_desktop")
    resume.click()
    page.locator("#details progress").wait_for()
    expect(resume).to_be_hidden()
    page.click("#cancel")
    expect(status).to_have_text(TEXTS["PageKept"].fr, timeout=RENDER_MS)
    expect(resume).to_be_visible()
    assert len(kept(server)) == 1

    give(page, portrait_path, short_voice)
    make(page)  # a draft, as the page was loaded anew
    expect(status).to_have_text(TEXTS["PageDone"].fr, timeout=RENDER_MS)
    expect(resume).to_be_visible()
    resume.click()
    expect(page.locator("#details")).to_contain_text("256×256", timeout=RENDER_MS)
    clip = plays(page)
    assert clip["seconds"] == pytest.approx(SHORT_SECONDS, abs=0.1)
    assert clip["width"] == 256
    expect(resume).to_be_hidden()
    assert wait_until(lambda: not kept(server), 10) and server.has_cleared()
    page.reload()
    page.wait_for_timeout(2000)  # longer than the page needs to ask for a job
    expect(resume).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_plan_is_shown_with_no_sideways_scroll_and_no_serious_finding(
    open_page, keep, portrait_path, short_voice, scheme
):
    page = open_page("fr-CA", size=PHONE, scheme=scheme)
    page.set_default_timeout(RENDER_MS)
    page.locator("#engine input[value=avatar]").check()
    expect(page.locator("#plan")).to_contain_text(TEXTS["PagePlanListen"].fr)
    give(page, portrait_path, short_voice)
    page.locator("#plan table").wait_for()
    expect(page.locator("#plan")).to_contain_text("Conseillé")
    expect(page.locator("#plan")).to_contain_text(TEXTS["PageRehearsal"].fr)
    keep(page, f"avatar_plan_fr_phone_{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert not serious(page)


def test_a_job_that_is_gone_is_forgotten(open_page, server, keep, portrait_path, short_voice):
    """Deleted meanwhile, as after a day: the page offers nothing that cannot be done."""
    page = open_page()
    page.set_default_timeout(RENDER_MS)
    give(page, portrait_path, short_voice)
    choose_avatar(page)
    make(page)
    page.locator("#details").get_by_text(f"0 of {STEPS}").wait_for()
    page.click("#cancel")
    expect(page.locator(STATUS)).to_have_text(TEXTS["PageKept"].en, timeout=RENDER_MS)
    [job] = kept(server)
    job.rename(job.with_name("elsewhere"))
    page.click("#resume")
    expect(page.locator(STATUS)).to_contain_text(job.name)
    expect(page.locator("#resume")).to_be_hidden()
    shutil.rmtree(job.with_name("elsewhere"))
