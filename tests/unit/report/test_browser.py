"""The page as a browser shows it: on a desktop, a phone, in the dark and in print."""

import re

import pytest
from browser import PROGRAM, Browser
from report_results import page_of, write_results

LEFT_OUT = "LEFT OUT: no Chromium is installed, so nobody has looked at the page"
pytestmark = [pytest.mark.skipif(PROGRAM is None, reason=LEFT_OUT), pytest.mark.xdist_group("browser")]
WINDOWS = {"desktop": (1400, 900, False), "phone": (390, 844, True)}
MOST_PAGES = 12
WIDER = """[...document.querySelectorAll("main *")].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width > 0 && box.right > innerWidth + 1 && !one.closest(".scroll, .datatable, .thumbs, svg, .canvas");
}).slice(0, 5).map((one) => `${one.tagName} ${one.className} ${one.textContent.slice(0, 40)}`)"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    page_of(folder, write_results(folder))
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_opens_without_an_error_a_request_or_an_overflow(browser, page, window, dark):
    width, height, mobile = WINDOWS[window]
    browser.open(page, width, height, dark=dark, mobile=mobile)
    if not (dark or mobile):  # the structures are drawn once: without a graphics card that takes its time
        browser.evaluate('document.querySelector("#gallery").scrollIntoView(), new Promise((d) => setTimeout(d, 500))')
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), browser.evaluate(WIDER)
    assert not browser.evaluate(WIDER)
    assert not browser.problems
    assert [one for one in browser.requests if not one.startswith(("data:", "blob:"))] == [page.as_uri()]


def test_text_reads_in_the_light_and_in_the_dark(browser, page):
    """WCAG's contrast of 4.5 between what is written and the page."""
    luminance = """((colour) => { const c = colour.match(/[\\d.]+/g).map((v) => v / 255)
      .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; })"""
    for dark in (False, True):
        browser.open(page, 1400, 900, dark=dark)
        ground = browser.evaluate(f'{luminance}(getComputedStyle(document.querySelector("section")).backgroundColor)')
        for which in ("h2", ".note", "nav a", "a.take", "#leaderboard .value", ".verdict.flagged"):
            ink = browser.evaluate(f"{luminance}(getComputedStyle(document.querySelector('{which}')).color)")
            light, deep = max(ink, ground), min(ink, ground)
            assert (light + 0.05) / (deep + 0.05) >= 4.5, (dark, which)


def test_the_leaderboard_folds_and_sorts(browser, page):
    browser.open(page, 1400, 900)
    rows = '[...document.querySelectorAll(".board tbody tr:not(.group)")].filter((one) => !one.hidden).length'
    every = browser.evaluate(rows)
    browser.evaluate('document.querySelector("button.fold").click()')
    assert 0 < browser.evaluate(rows) < every
    browser.evaluate('document.getElementById("board-fold").click()')
    assert browser.evaluate(rows) == 0
    browser.evaluate('document.getElementById("board-fold").click()')
    assert browser.evaluate(rows) == every
    button = '[...document.querySelectorAll("button.sort")].find((one) => one.textContent.startsWith("Nearest held"))'
    values = f"""[...{button}.closest("tr").cells].slice(1)
      .map((one) => Number(one.dataset.value)).filter((one) => !Number.isNaN(one))"""
    browser.evaluate(f"{button}.click()")
    ours = browser.evaluate(values)
    assert len(ours) == 3
    assert ours[0] >= max(ours[:-2])
    heads = '[...document.querySelectorAll(".board thead th")].slice(1).map((one) => one.dataset.name)'
    assert browser.evaluate(heads) == ["concat", "pca", "real"]  # the baseline and real domains stay at the right


def test_a_structure_can_be_taken_and_its_neighbour_looked_up(browser, page):
    browser.open(page, 1400, 900)
    browser.evaluate("""window.taken = []; URL.createObjectURL = (blob) => (taken.push(blob), "#");
      document.querySelector("#caption-sample button").click()""")
    text = browser.evaluate("taken[0].text()")
    assert text.startswith("ATOM      1  N   ALA A   1")
    assert text.count("\n") == 44 * 4 + 1
    assert browser.evaluate('document.querySelector("#caption-nearest a").href') == (
        "https://www.rcsb.org/structure/1UBI"
    )
    assert not browser.problems


def test_marks_say_their_values(browser, page):
    browser.open(page, 1400, 900)
    said = browser.evaluate('[...document.querySelectorAll("figure svg title")].map((one) => one.textContent)')
    assert any(re.fullmatch(r"concat: 50 nats, 2\.50 Å", one) for one in said)
    assert any(one.startswith("real: median ") for one in said) or any("mean" in one for one in said)


def test_it_prints_on_few_pages_with_pictures(browser, page):
    browser.open(page, 1400, 900)
    pdf = browser.printed()
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) <= MOST_PAGES
    browser.call("Emulation.setEmulatedMedia", media="print")
    widths = '[...document.querySelectorAll(".pictures svg")].map((one) => one.getBoundingClientRect().width)'
    assert sum(width > 20 for width in browser.evaluate(widths)) >= 4
    assert browser.evaluate('getComputedStyle(document.querySelector("nav")).display') == "none"
