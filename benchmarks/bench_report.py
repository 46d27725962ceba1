"""A report on 1,000 trials: seconds to write it, and to open its largest pages in headless Chromium, at most 2 each.

Opening is from navigation to the end of the load event's work, as the browser's own clock has it; the filter is timed
from a key to the next frame.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from selenium import webdriver

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "dashboards" / "fakes"))

from made_up import MadeUp

from dashboards.report.site import Request, write_report

NUM_TRIALS = 1000
NUM_ARMS = 3
REPEATS = 5
TIMING = "const t = performance.getEntriesByType('navigation')[0]; return (t.loadEventEnd - t.startTime) / 1000"
FILTER = """
const done = arguments[0], field = document.getElementById('trials-filter'), began = performance.now();
field.value = 'seed 33'; field.dispatchEvent(new Event('input'));
requestAnimationFrame(() => setTimeout(() => done((performance.now() - began) / 1000)));
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arms = (("grpo", "full"), ("grpo", "ets"), ("dapo", "ets"))
        made = MadeUp(folder, arms=arms, seeds=range(NUM_TRIALS // NUM_ARMS))
        for number, planned in enumerate((made.base, *made.trials)):
            made.finish(planned, rate=0.3 + 0.4 * number / NUM_TRIALS)
        count = len(made.plan.entries)
        started = time.perf_counter()
        request = Request(experiments=("made_up",), folder=folder / "site", data_folder=None)
        index = write_report(made.store, request, on_progress=lambda line: None)
        print(f"orch report, {count} trials: written in {time.perf_counter() - started:.1f} s")
        browser = chromium()
        try:
            trials = index.parent / "experiments" / "made_up" / "trials.html"
            for page in (index, trials, trials.parent / "figures.html"):
                times = [opened(browser, page) for _ in range(REPEATS)]
                print(f"  {page.name:<13} opens in {median(times):.2f} s, median of {REPEATS} (at most 2)")
            opened(browser, trials)
            print(f"  filtering its {count} rows: {browser.execute_async_script(FILTER):.3f} s")
        finally:
            browser.quit()


def opened(browser: Any, page: Path) -> float:
    browser.get(page.as_uri())
    return float(browser.execute_script(TIMING))


def chromium() -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


if __name__ == "__main__":
    main()
