"""A report in headless Chromium: it loads from file://, sorts, filters, switches theme, and asks for nothing."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up import MadeUp

from dashboards.report.site import Request, write_report

pytestmark = pytest.mark.slow

BINARIES = ("chromium", "chromium-browser", "google-chrome")
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MadeUp]:
    published = {"tables": ["gmts_table1"], "stands_for": {"model": "Qwen2.5-Math-1.5B", "training_data": "math12k"}}
    arms = (("grpo", "full"), ("grpo", "ets"), ("dapo", "ets"))
    made = MadeUp(tmp_path_factory.mktemp("made"), arms=arms, published=published)
    for number, planned in enumerate((made.base, *made.trials[:-1])):
        made.finish(planned, rate=0.3 + 0.1 * number)
    request = Request(experiments=("made_up",), folder=tmp_path_factory.mktemp("out") / "site", data_folder=None)
    return write_report(made.store, request, on_progress=lambda line: None).parent, made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    binary = next((found for name in BINARIES if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium with chromedriver on this machine: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def test_every_page_loads_without_an_error_or_a_request(site: tuple[Path, MadeUp], browser: Any) -> None:
    pages = [*site[0].rglob("*.html")]
    browser.get_log("performance")
    for page in pages:
        browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    requested = [
        event["params"]["request"]["url"]
        for event in (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert len(requested) >= len(pages)
    assert [url for url in requested if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_column_sorts_down_up_and_back(site: tuple[Path, MadeUp], browser: Any) -> None:
    open_page(site, browser, "index.html")
    header = browser.find_element("xpath", "//th[.//button[starts-with(., 'arithmetic')]]")
    planned = column(browser, "arithmetic")
    assert len(planned) == 4
    orders = []
    for _ in range(3):
        header.find_element("tag name", "button").click()
        orders.append((header.get_attribute("aria-sort"), column(browser, "arithmetic")))
    numbers = sorted((float(text.split()[0]) for text in planned if text != "not run yet"), reverse=True)
    assert [name for name, _ in orders] == ["descending", "ascending", None]
    assert [float(text.split()[0]) for text in orders[0][1][:-1]] == numbers
    assert [float(text.split()[0]) for text in orders[1][1][:-1]] == numbers[::-1]
    assert orders[0][1][-1] == orders[1][1][-1] == "not run yet"
    assert orders[2][1] == planned


def test_a_filter_keeps_rows_with_every_word_and_says_how_many(site: tuple[Path, MadeUp], browser: Any) -> None:
    open_page(site, browser, "trials.html")
    field = browser.find_element("id", "trials-filter")
    field.send_keys("ets grpo")
    shown = [row.text for row in browser.find_elements("css selector", "#trials tbody tr") if row.is_displayed()]
    assert len(shown) == 1
    assert shown[0].startswith("grpo · ets · 0.2 · seed 0")
    assert browser.find_element("css selector", ".filter output").text == "1 of 4 rows"


def test_figures_are_drawn_with_one_trace_a_series(site: tuple[Path, MadeUp], browser: Any) -> None:
    open_page(site, browser, "figures.html")
    browser.execute_script("document.getElementById('figure-reward_mean').scrollIntoView()")
    traces = browser.execute_async_script(
        "const done = arguments[0]; const wait = () => { const f = document.getElementById('figure-reward_mean');"
        "'drawn' in f.dataset ? done(f.querySelector('.plot').data.map((one) => one.name)) : setTimeout(wait, 50); };"
        "wait();"
    )
    assert traces == ["grpo · full", "grpo · ets · 0.2"]


def test_the_published_panel_is_drawn_beside_ours(site: tuple[Path, MadeUp], browser: Any) -> None:
    open_page(site, browser, "figures.html")
    panels = browser.execute_async_script(
        "const done = arguments[0]; const wait = () => { const f = document.getElementById('figure-scores');"
        "'drawn' in f.dataset ? done([...f.querySelectorAll('.plot')].map((one) => one.data.length))"
        ": setTimeout(wait, 50); }; wait();"
    )
    assert panels == [1, 4]  # ours is one series over the arms; the paper's has the base and three arms


def test_the_theme_button_goes_round_and_is_remembered(site: tuple[Path, MadeUp], browser: Any) -> None:
    open_page(site, browser, "index.html")
    papers = []
    for _ in range(3):
        browser.find_element("id", "theme").click()
        papers.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        browser.refresh()
        assert papers[-1] == browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert papers[:2] == ["rgb(255, 255, 255)", "rgb(21, 24, 28)"]
    assert browser.find_element("id", "theme").text == "Theme: system"


def test_no_page_scrolls_sideways_on_a_phone(site: tuple[Path, MadeUp], browser: Any) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        for page in site[0].rglob("*.html"):
            browser.get(page.as_uri())
            assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE["width"], page.name
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_keyboard_reaches_the_content_first(site: tuple[Path, MadeUp], browser: Any) -> None:
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    open_page(site, browser, "index.html")
    body = browser.find_element("tag name", "body")
    body.send_keys(keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to content"
    skip.send_keys(keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "main"


def open_page(site: tuple[Path, MadeUp], browser: Any, name: str) -> None:
    browser.get((site[0] / "experiments" / "made_up" / name).as_uri())


def column(browser: Any, label: str) -> list[str]:
    """The texts of a column in the order in which they stand."""
    script = (
        "const t = document.querySelector('table.sortable');"
        "const n = [...t.tHead.rows[0].cells].findIndex((c) => c.textContent.startsWith(arguments[0]));"
        "return [...t.tBodies[0].rows].map((row) => row.cells[n].textContent.trim());"
    )
    found: list[str] = browser.execute_script(script, label)
    return found
