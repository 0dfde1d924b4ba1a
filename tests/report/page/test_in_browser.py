"""The page in Chromium: read, sorted, printed and attacked as readers and documents would."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.report.browser import DESKTOP, PHONE, Browser
from tests.report.page.gallery import LONG_WORD, gallery
from tests.report.page.test_page import everywhere
from trainer.report.page.blocks import Page, PageSection
from trainer.report.page.render import render
from trainer.report.page.table import DataTable

GALLERY = render(gallery())
RECIPE = "\n".join(["train:", *(f"  key_{number}: {number}" for number in range(12))])
RECIPE += f"\n  path: {LONG_WORD}"
OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"
HOSTILE = (
    "<script>window.taken = 1</script><img src=x onerror='window.taken = 1'>"
    "</style></title></textarea><svg onload=window.taken=1> &amp; \" ' {{ 7*7 }}\x00\u202e"
)
SHOWN = HOSTILE.replace("\x00", "[U+0000]").replace("\u202e", "[U+202E]")
ROWS = [
    ["b", "0.81 (0.77-0.85)", "step 9"],
    ["a", "0.09 (0.05-0.11)", "step 100"],
    ["d", "no figure", ""],
    ["c", "1.2 (1.0-1.4)", "step 10"],
]
TABLE = render(
    Page("t", "", [PageSection("s", [DataTable(["name", "share", "at"], ROWS, "Shares")])])
)


def names(browser: Browser) -> str:
    """The first cells of the table's rows, as one word."""
    return str(
        browser.ask(
            "return [...document.querySelectorAll('tbody th')].map(e=>e.textContent).join('')"
        )
    )


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everybody_can_read_it(browser: Browser, width: int, dark: bool) -> None:
    """Would catch weak contrast, a control without a name, a heading out of order."""
    browser.open(GALLERY, width, dark=dark)
    browser.ask(OPEN_ALL)
    assert browser.violations() == []


def test_what_cannot_be_read_would_be_found(browser: Browser) -> None:
    """Negative control: grey on white, and a button without a name, are violations."""
    browser.open(TABLE)
    browser.ask("document.querySelector('h1').style.color = '#b0b0b0'")
    browser.ask("document.querySelector('main').append(document.createElement('button'))")
    found = " ".join(browser.violations())
    assert "color-contrast" in found and "button-name" in found


@pytest.mark.parametrize("width", [DESKTOP, 800, PHONE, 320])
def test_nothing_sticks_out_of_the_window(browser: Browser, width: int) -> None:
    """Would catch a table, a plot or a long word that makes a phone's page scroll sideways."""
    browser.open(GALLERY, width)
    browser.ask(OPEN_ALL)
    assert browser.overflowing() == []
    shown = "return document.querySelector(arguments[0]).getBoundingClientRect().width > 0"
    assert browser.ask(shown, ".plot-wide") == (width >= 800)
    assert browser.ask(shown, ".plot-narrow") == (width < 800)


def test_what_sticks_out_would_be_found(browser: Browser) -> None:
    """Negative control: a long word that may not be broken."""
    browser.open(GALLERY, PHONE)
    browser.ask("document.querySelector('h2').textContent = 'x\u00a0'.repeat(200)")
    browser.ask("document.querySelector('h2').style.whiteSpace = 'pre'")
    assert browser.overflowing() != []


def test_samples_stand_side_by_side_and_on_a_phone_below_each_other(browser: Browser) -> None:
    """Would catch columns too narrow to read, or a comparison that a desk shows in a row."""
    tops = "return [...document.querySelectorAll('.samples:first-of-type dl > div')].slice(0, 2)"
    tops += ".map((one) => one.getBoundingClientRect().top)"
    browser.open(GALLERY)
    before, after = browser.ask(tops)
    assert before == after
    browser.resize(PHONE)
    before, after = browser.ask(tops)
    assert before < after


def test_columns_sort_by_key_and_by_click(browser: Browser) -> None:
    """Would catch numbers sorted as text, missing ones on top, or a head that keys do not reach."""
    browser.open(TABLE)
    heads = browser.driver.find_elements(By.CSS_SELECTOR, "thead th")
    buttons = [head.find_element(By.TAG_NAME, "button") for head in heads]
    assert [button.text for button in buttons] == ["name", "share", "at"]
    share, at = buttons[1], buttons[2]
    for key, order, state in [
        (Keys.ENTER, "abcd", "ascending"),
        (Keys.SPACE, "cbad", "descending"),
        (Keys.ENTER, "badc", None),
    ]:
        share.send_keys(key)
        assert names(browser) == order
        assert heads[1].get_dom_attribute("aria-sort") == state
    share.send_keys(Keys.ENTER)
    at.click()
    assert names(browser) == "bcad"
    sorted_by = browser.ask("return document.querySelectorAll('[aria-sort]').length")
    assert sorted_by == 1 and heads[2].get_dom_attribute("aria-sort") == "ascending"


def test_the_keyboard_reaches_everything_in_order(browser: Browser) -> None:
    """Would catch a control left out of the order of the Tab key, or a table without a way in."""
    browser.open(TABLE)
    reached = []
    for _ in range(6):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(browser.driver.switch_to.active_element.text)
    assert reached == ["Skip to the content", "Dark", "s", "name", "share", "at"]
    browser.open(GALLERY, PHONE)
    stops = browser.ask(
        "return [...document.querySelectorAll('.scroll')].map((one) => one.tabIndex)"
    )
    assert stops == [0, 0, 0]
    browser.resize(DESKTOP)
    browser.ask(OPEN_ALL)
    tabbed = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() =>"
    tabbed += " done([...document.querySelectorAll('.scroll')].map((one) => one.tabIndex))))"
    assert browser.driver.execute_async_script(tabbed) == [-1, 0, -1]


def test_the_contents_say_where_the_reader_is(browser: Browser) -> None:
    """Would catch a mark that stays behind, or a last section that never gets it."""
    browser.open(GALLERY)
    marked = (
        "const done = arguments[1]; scrollTo(0, arguments[0]);"
        " const settled = () => done([...document.querySelectorAll('[aria-current]')]"
        ".map((one) => one.textContent));"
        " requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(settled)))"
    )
    training = "return document.getElementById('training').offsetTop"
    places = (browser.ask(training), 1_000_000)
    seen = [browser.driver.execute_async_script(marked, place) for place in places]
    assert seen == [["Training"], ["Reproduce"]]


def test_it_asks_for_nothing_and_logs_nothing(browser: Browser) -> None:
    """Would catch a font from elsewhere, a script error, a style that the policy forbids."""
    browser.open(GALLERY)
    browser.ask(OPEN_ALL)
    assert browser.asked() == [] and browser.console() == []


def test_its_policy_keeps_out_what_is_not_its_own(browser: Browser) -> None:
    """Negative control of the one above, and would catch a policy that lets a script slip in."""
    browser.open(GALLERY)
    browser.ask(
        "for (const [name, key, value] of [['script', 'textContent', 'window.taken = 1'],"
        " ['img', 'src', 'http://127.0.0.1:9/x.png'], ['p', 'innerHTML', '<b style=color:red>']]) {"
        " const one = document.createElement(name); one[key] = value; document.body.append(one); }"
    )
    assert browser.ask("return window.taken") is None
    assert len(browser.console()) == 3


def test_dark_mode_follows_the_system_until_it_is_switched(browser: Browser) -> None:
    """Would catch a switch that does nothing, or says the contrary of what is shown."""
    browser.open(GALLERY)
    light = browser.colour("body")
    browser.media(dark=True)
    dark = browser.colour("body")
    assert light == "rgb(255, 255, 255)" != dark
    switch = browser.driver.find_element(By.ID, "theme")
    for pressed, colour in [("false", light), ("true", dark), ("false", light)]:
        switch.click()
        assert switch.get_dom_attribute("aria-pressed") == pressed
        assert browser.colour("body") == colour
        assert browser.colour(".plot-wide", "color") == browser.colour("body", "color")


def test_print_is_light_whole_and_without_controls(browser: Browser) -> None:
    """Would catch buttons on paper, white text on it, rows cut off, or what is folded left out."""
    browser.open(GALLERY, dark=True)
    browser.ask(
        "window.folded = []; addEventListener('beforeprint', () => {"
        " window.folded = [...document.querySelectorAll('details:not([open])')] })"
    )
    browser.driver.execute_cdp_cmd("Page.printToPDF", {})
    assert browser.ask("return window.folded") == []
    assert browser.ask("return document.querySelectorAll('details[open]').length") == 0
    browser.media("print", dark=True)
    assert browser.colour("body", "color") == "rgb(27, 31, 36)"
    seen = (
        "return [...document.querySelectorAll(arguments[0])].filter((e) => e.offsetHeight).length"
    )
    assert browser.ask(seen, "#theme, .copy, .skip, .status") == 0
    assert browser.ask(seen, "thead th") > 0
    cut = "return [...document.querySelectorAll('.scroll')].filter((e) => getComputedStyle(e)"
    assert browser.ask(cut + ".overflowY !== 'visible').length") == 0


def test_a_command_is_copied_as_it_is(browser: Browser) -> None:
    """Would catch a copy with the button's own word in it, or none where the page is a file."""
    browser.open(GALLERY)
    browser.driver.find_elements(By.CSS_SELECTOR, ".copy")[1].click()
    status = browser.driver.find_elements(By.CSS_SELECTOR, ".status")[1]
    WebDriverWait(browser.driver, 20).until(lambda _: status.text)
    assert status.text == "Copied"
    browser.ask("document.querySelector('main').append(document.createElement('textarea'))")
    area = browser.driver.find_element(By.TAG_NAME, "textarea")
    area.send_keys(Keys.CONTROL, "v")
    text = browser.ask("return document.querySelectorAll('.command code')[1].textContent")
    assert area.get_property("value") == text == RECIPE


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_markup_in_a_text_is_shown_as_text(browser: Browser, width: int) -> None:
    """Would catch a title, cell, caption, sample or prompt of a document that runs in the page."""
    browser.open(render(everywhere(HOSTILE)), width, dark=True)
    browser.ask(OPEN_ALL)
    assert browser.ask("return window.taken") is None
    assert browser.ask("return document.querySelectorAll('script, style').length") == 2
    assert browser.ask("return document.querySelectorAll('img, textarea, [onload]').length") == 0
    assert browser.driver.title == SHOWN
    for selector in ("h1", "h2", "th", "td", "figcaption", "dt", "dd", "code", "footer", ".note"):
        texts = browser.ask(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)",
            selector,
        )
        assert any(SHOWN in text for text in texts), selector
    assert browser.overflowing() == []
    assert browser.asked() == [] and browser.console() == []


def test_a_lone_surrogate_does_not_stop_the_page(browser: Browser) -> None:
    """Would catch a report that cannot be written since one sample ends in half a character."""
    browser.open(render(everywhere("half \ud83d")))
    assert browser.driver.title == "half \ufffd"
