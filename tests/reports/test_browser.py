"""The page in a real browser, which chromium is: with script and style, and without."""

import contextlib
import json
import os
import re
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_memreq.reports.html import render
from tests.reports.hostile import NAMES
from tests.reports.html_results import full, plain, run_of

# What Jenkins serves reports with: no script, no style that is within the page.
JENKINS = "sandbox; default-src 'none'; img-src 'self'; style-src 'self';"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--disable-dev-shm-usage"),
)
BROWSERS = ("chromium", "google-chrome")
CONTRASTS = """
const numbers = (color) => color.match(/[0-9.]+/g).map(Number);
const light = (color) => {
  const [r, g, b] = numbers(color).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if ((numbers(color)[3] ?? 1) > 0) return color;
  }
  return "rgb(255, 255, 255)";
};
const found = [];
for (const element of document.body.querySelectorAll("*:not(script):not(option)")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || element.namespaceURI.includes("svg")) continue;
  const [one, other] = [getComputedStyle(element).color, behind(element)].map(light);
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (contrast < 4.5) found.push(`${element.outerHTML.slice(0, 80)}: ${contrast.toFixed(2)}`);
}
return found;
"""
OUTSIDE = """
return [...document.querySelectorAll(".plot svg")].flatMap((svg) => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("rect, text, path, circle, line")].filter((each) => {
    const it = each.getBoundingClientRect();
    const stacked = each.tagName === "text"; // a letter may carry fifty accents
    return it.left < box.left - 1 || it.right > box.right + 1
      || (!stacked && (it.top < box.top - 1 || it.bottom > box.bottom + 1));
  }).map((each) => each.outerHTML.slice(0, 120));
});
"""


def browser_path():
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def webdriver():
    """Selenium, and the programs that it drives; where there are none the tests are skipped."""
    missing = [] if browser_path() else [BROWSERS[0]]
    missing += [] if shutil.which("chromedriver") else ["chromedriver"]
    try:
        import selenium.webdriver as found
    except ImportError:
        missing.append("selenium")
    if not missing:
        return found
    reason = f"the page was not looked at in a browser: no {', '.join(missing)}"
    if os.environ.get("MEMREQ_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser(webdriver, tmp_path_factory):
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser_path()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page with all that there is."""
    tests = [full(f"test_{word}.py::test", word) for word in ("over", "unchecked", "improved")]
    tests += [plain(f"test_plain.py::test_{at}") for at in range(30)]
    tests += [full(name, "regressed") for name in NAMES[2:40]]
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render(run_of(*tests, status="incomplete")), encoding="utf-8")
    return path


@contextlib.contextmanager
def served(page, policy):
    """The page from a server of this machine, under a policy."""
    content = page.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


def shown(browser, address, *, width=1200, scheme="light", runs_scripts=True):
    emulate = {
        "Emulation.setDeviceMetricsOverride": {
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500,
        },
        "Emulation.setEmulatedMedia": {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]
        },
        "Emulation.setScriptExecutionDisabled": {"value": not runs_scripts},
    }  # fmt: skip
    for command, parameters in emulate.items():
        browser.execute_cdp_cmd(command, parameters)
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(address)


def requested(browser, address):
    """All that was asked for; the log comes after the page."""
    found = []
    soon(lambda: found.extend(newly_requested(browser)) or address in found)
    return found


def newly_requested(browser):
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    urls = [params["request"]["url"] for params in sent]
    return [url for url in urls if not url.startswith(("data:", "chrome:", "about:"))]


def test_nothing_is_said_on_the_console_and_nothing_else_is_requested(browser, page):
    shown(browser, page.as_uri())
    assert browser.get_log("browser") == []
    assert set(requested(browser, page.as_uri())) == {page.as_uri()}


def test_plots_are_there_and_nothing_leaves_them(browser, page):
    shown(browser, page.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('.plot svg')].map((each) =>"
        " [each.getBoundingClientRect().width, each.getBoundingClientRect().height])"
    )
    assert len(sizes) >= 20
    assert all(width > 400 and height > 150 for width, height in sizes)
    assert browser.execute_script(OUTSIDE) == []


def cells(browser, column):
    return browser.execute_script(
        "return [...document.querySelectorAll('table.tests tbody tr')]"
        f".filter((row) => !row.hidden).map((row) => row.cells[{column}].textContent.trim())"
    )


def test_the_table_is_sorted_and_filtered(browser, page):
    shown(browser, page.as_uri())
    heads = browser.find_elements("css selector", "table.tests thead button")
    before = cells(browser, 1)
    click = "arguments[0].click()"
    browser.execute_script(click, heads[2])
    peaks = [float(re.match("[0-9.]+", cell)[0]) for cell in cells(browser, 2)]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[0] > peaks[-1]
    browser.execute_script(click, heads[2])
    assert cells(browser, 2)[0] == "1.00 GiB"
    assert sorted(cells(browser, 1)) == sorted(before)
    head = heads[2].find_element("xpath", "..")
    assert head.get_attribute("aria-sort") == "ascending"
    browser.find_element("css selector", "#controls input").send_keys("PLAIN.py")
    status = browser.find_element("css selector", "#controls [role=status]")
    expected = "30 of 30 shown"
    assert soon(lambda: status.text, expected.__eq__) == expected
    assert len(cells(browser, 1)) == 30


def test_of_many_tests_the_first_are_shown_and_all_where_asked_for(browser, tmp_path):
    path = tmp_path / "index.html"
    tests = [plain(f"test_a.py::test_{at:03}") for at in range(600)]
    path.write_text(render(run_of(*tests)), encoding="utf-8")
    shown(browser, path.as_uri())
    assert len(cells(browser, 1)) == 500
    first = browser.find_elements("css selector", "table.tests thead button")[1]
    for end in ("000", "599"):
        browser.execute_script("arguments[0].click()", first)
        assert cells(browser, 1)[0].endswith(end)
    assert browser.find_element("css selector", "#controls [role=status]").text == (
        "500 of 600 shown"
    )
    browser.execute_script("document.querySelector('#controls button').click()")
    assert len(cells(browser, 1)) == 600
    assert not browser.find_element("css selector", "#controls button").is_displayed()


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_the_page_is_no_wider_than_the_screen(browser, page, width):
    shown(browser, page.as_uri(), width=width)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    sizes = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth, innerWidth]"
    scrolled, shown_width, whole = browser.execute_script(sizes)
    assert scrolled == shown_width <= whole == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_told_from_what_is_behind_it(browser, page, scheme):
    shown(browser, page.as_uri(), scheme=scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")
    assert browser.execute_script(CONTRASTS) == []


def text_of(browser):
    """That of the page, which the browser may have still to build."""
    text = "document.readyState == 'complete' ? document.body.innerText : ''"
    asked = {"expression": text, "returnByValue": True}
    return soon(lambda: browser.execute_cdp_cmd("Runtime.evaluate", asked)["result"].get("value"))


def soon(ask, is_right=bool):
    """What is answered once it is right, or at last."""
    end = time.monotonic() + 10
    while not is_right(answer := ask()) and time.monotonic() < end:
        time.sleep(0.05)
    return answer


def test_without_script_all_is_there_but_what_only_script_does(browser, page):
    shown(browser, page.as_uri())
    with_script = text_of(browser)
    shown(browser, page.as_uri(), runs_scripts=False)
    without = text_of(browser)
    assert browser.find_elements("css selector", "#controls *") == []
    assert set(without.split()) <= set(with_script.split())
    assert "INCOMPLETE." in without
    assert "test_plain.py::test_29" in without


def test_under_the_policy_of_jenkins_all_text_and_the_plots_are_there(browser, page):
    shown(browser, page.as_uri(), runs_scripts=False)
    styled = set(text_of(browser).lower().split())
    with served(page, JENKINS) as address:
        shown(browser, address, runs_scripts=False)
        text = text_of(browser)
        messages = [entry["message"] for entry in browser.get_log("browser")]
        family = browser.execute_cdp_cmd(
            "Runtime.evaluate", {"expression": "getComputedStyle(document.body).fontFamily"}
        )["result"]["value"]
        others = requested(browser, address)
    assert "system-ui" not in family  # the style did not pass
    assert all("Content Security Policy" in m or "sandboxed" in m for m in messages), messages
    assert styled <= set(text.lower().split())
    assert set(others) == {address}
    [svg, *_] = browser.find_elements("css selector", ".plot svg")
    assert svg.size == {"width": 640, "height": 220}
