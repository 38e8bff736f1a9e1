"""The page in a real browser, by the keyboard alone; nothing is clicked but the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from browser_fixtures import (
    DOWN,
    ENTER,
    ESCAPE,
    LEFT,
    RIGHT,
    SHIFT,
    TAB,
    UP,
    Browser,
    browser,
    chromium,
)
from serve_fixtures import MARKUP, Page, page, served, town

__all__ = ["browser", "chromium", "page", "town"]

ROWS = "[...document.querySelectorAll('#models > :nth-child(%d) tbody tr')]"


def rows(browser: Browser, column: int = 1) -> list[list[str]]:
    """Return place, name, score and mark of each answer as the page shows them."""
    found: list[list[str]] = browser.run(
        f"return {ROWS % column}.map((row) => [row.cells[0].textContent, "
        "row.querySelector('bdi').textContent, row.cells[2].textContent, "
        "row.querySelector('.known')?.textContent ?? ''])"
    )
    return found


def expected(page: Page, **question: Any) -> list[list[str]]:
    found = page.get("answers", **question)["answers"]
    return [
        [str(i), a["name"], f"{a['score']:.4f}", "known" if a["known"] else ""]
        for i, a in enumerate(found, 1)
    ]


def focused(browser: Browser) -> str:
    name: str = browser.run("return document.activeElement.id || document.activeElement.tagName")
    return name


def options(browser: Browser, name: str) -> list[str]:
    """Return the suggestions under a field, once they are those for what is in it."""
    found: list[str] = browser.run(
        "const found = document.querySelectorAll(`#${arguments[0]}-list bdi`);"
        "return [...found].map((o) => o.textContent)",
        name,
    )
    return found


def shown(browser: Browser, name: str, first: str) -> None:
    browser.wait(
        "!document.getElementById(`${arguments[0]}-list`).hidden && "
        "document.querySelector(`#${arguments[0]}-list bdi`)?.textContent === arguments[1]",
        name,
        first,
    )


def answered(browser: Browser, triple: str, columns: int = 1) -> None:
    browser.wait(
        "document.getElementById('triple').textContent === arguments[0] && "
        "document.querySelectorAll('tbody:not(:empty)').length === arguments[1]",
        triple,
        columns,
    )


def test_a_question_by_the_keyboard(browser: Browser, page: Page, town: Path) -> None:
    """Type, choose, see; then compare, turn the question round, and go back."""
    names = [str(town / name) for name in ("complex", "transe", "lost")]
    with served(names[:1], store=town / "none", data_root=town / "data") as alone:
        browser.go(alone.url)
        browser.wait("document.querySelector('figcaption')?.textContent")
        assert focused(browser) == "entity"

        browser.type("ad")
        shown(browser, "entity", "Ada")
        assert options(browser, "entity") == ["Ada", "Adam", "Bo Adler"]
        browser.type(DOWN + DOWN + UP)
        active = browser.run("return document.activeElement.getAttribute('aria-activedescendant')")
        selected = browser.run("return document.querySelector('[aria-selected=true]').id")
        assert active == selected == "entity-1"
        browser.type(ESCAPE)
        assert browser.run("return document.getElementById('entity-list').hidden")
        browser.type("a")
        shown(browser, "entity", "Ada")
        browser.wait("document.querySelectorAll('#entity-list bdi').length === 2")
        browser.type(ENTER)
        browser.wait("document.activeElement.id === 'relation'")
        shown(browser, "relation", "knows")
        assert options(browser, "relation") == ["knows", "lives in", "runs"]
        browser.type("ru")
        shown(browser, "relation", "runs")
        browser.type(ENTER)
        answered(browser, "(Ada, runs, ?)")
        first = expected(alone, entity="Ada", relation="runs")
        assert rows(browser) == first
        assert [row[1] for row in first if row[3]] == ["Mill"]
        assert browser.run("return document.activeElement.matches(':focus-visible')")

        browser.type(SHIFT + TAB)  # to the side asked for; arrows change it, and the answers
        browser.type(SHIFT)
        assert browser.run("return document.activeElement.name") == "side"
        browser.type(RIGHT)
        answered(browser, "(?, runs, Ada)")
        turned = expected(alone, entity="Ada", relation="runs", side="head")
        browser.wait(
            "document.querySelector('tbody bdi').textContent === arguments[0]", turned[0][1]
        )
        assert rows(browser) == turned
        browser.run("history.back()")
        answered(browser, "(Ada, runs, ?)")
        browser.wait(
            "document.querySelector('tbody bdi').textContent === arguments[0]", first[0][1]
        )
        assert rows(browser) == first
        assert browser.complaints() == []


def test_why_an_answer(browser: Browser, page: Page, town: Path) -> None:
    """A button below each answer shows its train facts, by the keyboard; and hides them again."""
    browser.go(f"{page.url}?{urlencode({'entity': 'Mill', 'relation': 'runs', 'side': 'head'})}")
    answered(browser, "(?, runs, Mill)", 2)
    best = page.get("answers", entity="Mill", relation="runs", side="head")["answers"][0]["name"]
    why = page.get("explanation", head=best, relation="runs", tail="Mill", k=3)
    browser.wait("document.querySelector('#models > :nth-child(1) button.why')")
    browser.run("document.querySelector('#models > :nth-child(1) button.why').focus()")
    browser.type(ENTER)
    browser.wait("document.querySelector('.because ul')")
    told = browser.run("return document.querySelector('.because').textContent")
    wanted = [one["fact"] for one in why["facts"]]
    wanted += [fact for path in why["paths"] for fact in path["facts"]]
    assert wanted
    for fact in wanted:
        assert f"({fact['head']}, {fact['relation']}, {fact['tail']})" in told
    for path in why["paths"]:
        assert f"{path['hits']} of {path['pairs']} pairs" in told
    assert ("It is a train fact itself" in told) == why["in_train"]
    assert low_contrast(browser) == []
    browser.type(ENTER)
    browser.wait("document.querySelector('.because').hidden")
    assert browser.run("return document.activeElement.getAttribute('aria-expanded')") == "false"
    assert browser.complaints() == []
    with served([str(town / "lost")], store=town / "none", data_root=town / "none") as alone:
        browser.go(f"{alone.url}?{urlencode({'entity': 'Ada', 'relation': 'runs'})}")
        answered(browser, "(Ada, runs, ?)")
        browser.wait("document.querySelector('.facts').textContent.includes('not marked')")
        assert browser.run("return document.querySelectorAll('button.why').length") == 0


def test_a_question_to_begin_with(browser: Browser, page: Page, town: Path) -> None:
    """One press asks it; the fields and the address say what was asked."""
    browser.go(page.url)
    browser.wait("document.querySelectorAll('.example').length")
    asked = page.get("model", model=page.gallery.given[0])["examples"][0]
    browser.run("document.querySelector('.example').click()")
    answered(browser, f"({asked['entity']}, {asked['relation']}, ?)", 2)  # two models are compared
    assert browser.run("return document.getElementById('relation').value") == asked["relation"]
    first = expected(page, entity=asked["entity"], relation=asked["relation"])
    assert rows(browser) == first


def test_two_models_side_by_side(browser: Browser, page: Page, town: Path) -> None:
    question = {"entity": "Anaïs", "relation": "knows", "side": "head"}
    browser.go(f"{page.url}?{urlencode(question)}")
    answered(browser, "(?, knows, Anaïs)", 2)
    models = [str(town / name) for name in ("complex", "transe")]
    wanted = [expected(page, model=model, **question) for model in models]
    assert [rows(browser, 1), rows(browser, 2)] == wanted
    places = {name: place for place, name, _, _ in wanted[1]}
    theirs = browser.run(f"return {ROWS % 1}.map((row) => row.cells[3].textContent)")
    assert theirs == [places.get(name, "–") for _, name, _, _ in wanted[0]]

    lost = str(town / "lost")
    browser.go(f"{page.url}?{urlencode({**question, 'with': lost})}")
    answered(browser, "(?, knows, Anaïs)", 2)
    facts = browser.run("return [...document.querySelectorAll('.facts')].map((p) => p.textContent)")
    assert facts[0] == "Known facts: 2, of which 2 among these answers."
    assert facts[1].startswith("Known facts are not marked: ")

    wrong = {**question, "entity": "Anais"}
    browser.go(f"{page.url}?{urlencode(wrong)}")
    browser.wait("document.querySelectorAll('.problem:not([hidden]) button').length === 2")
    browser.run("document.querySelector('.problem button').focus()")
    browser.type(ENTER)
    answered(browser, "(?, knows, Anaïs)", 2)
    assert rows(browser, 1) == wanted[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (360, 740)])
def test_names_are_text_and_everything_fits(
    browser: Browser, page: Page, scheme: str, width: int, height: int
) -> None:
    """A name that is markup stays a name; nothing is wider than the window."""
    browser.devtools(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
    )  # fmt: skip
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.devtools("Emulation.setEmulatedMedia", features=media)
    browser.go(f"{page.url}?{urlencode({'entity': MARKUP, 'relation': 'lives in'})}")
    answered(browser, f"({MARKUP}, lives in, ?)", 2)
    assert MARKUP in [row[1] for row in rows(browser)]
    assert browser.run("return document.querySelectorAll('img').length") == 0
    assert browser.run("return document.title") == f"({MARKUP}, lives in, ?) · dglke-distill"
    browser.type(" ")
    browser.wait("!document.getElementById('entity-list').hidden")
    wide = "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.hidden') && "
    wide += "e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)"
    assert browser.run(f"return {wide}.map((e) => e.outerHTML)") == []
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 3 * 128) == (scheme == "dark")
    assert low_contrast(browser) == []
    assert browser.complaints() == []


def low_contrast(browser: Browser) -> list[str]:
    """Return the texts whose colour is too near to that behind them (WCAG 2.2, 1.4.3)."""
    found: list[str] = browser.run(
        """
        const light = (colour) => {
          const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
            .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const behind = (element) => {
          for (let e = element; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if (!/, 0\\)$/.test(colour)) return colour;
          }
        };
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        const bad = [];
        while (texts.nextNode()) {
          const element = texts.currentNode.parentElement;
          if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
          const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
          const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          if (ratio < 4.5) bad.push(`${texts.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
        }
        return bad;
        """
    )
    return found


def test_the_map(browser: Browser, page: Page) -> None:
    """Arrow keys go from entity to entity; Enter, or a click, asks about one."""
    browser.go(f"{page.url}?{urlencode({'entity': 'Ada', 'relation': 'knows', 'with': ''})}")
    answered(browser, "(Ada, knows, ?)")
    browser.wait("document.querySelectorAll('.legend li').length > 0")
    legend = browser.run(
        "return [...document.querySelectorAll('.legend li')].map((l) => l.textContent)"
    )
    drawn = page.get("map")
    assert legend[: len(drawn["roles"])] == [
        f"{r['side']} of {r['relation']}" for r in drawn["roles"]
    ]
    pixels = browser.run(
        "const c = document.querySelector('canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return new Set(new Uint32Array(d.buffer)).size"
    )
    assert pixels > 20  # colours: points, marks, names and their edges

    browser.run("document.querySelector('canvas').focus()")
    browser.type(DOWN)
    tip = "document.querySelector('.tip:not([hidden])')?.textContent"
    assert browser.wait(tip) == "Ada"
    steps = [DOWN, UP, LEFT, RIGHT]
    seen = set()
    for step in steps * 3:
        browser.type(step)
        seen.add(browser.wait(tip))
        assert browser.run("return document.getElementById('status').textContent") in seen
    assert len(seen) > 2
    chosen = browser.wait(tip)
    browser.type(ENTER)
    answered(browser, f"({chosen}, knows, ?)")
    wanted = expected(page, entity=chosen, relation="knows")
    browser.wait(f"{ROWS % 1}[0].cells[2].textContent === arguments[0]", wanted[0][2])
    assert rows(browser) == wanted


def test_the_map_may_be_laid_out_otherwise(browser: Browser, page: Page) -> None:
    pytest.importorskip("umap", reason="umap-learn is not installed")
    browser.go(f"{page.url}?{urlencode({'entity': 'Ada', 'relation': 'knows', 'with': ''})}")
    answered(browser, "(Ada, knows, ?)")
    caption = "document.querySelector('figcaption').textContent"
    browser.wait(f"{caption}.includes('principal components')")
    offered = browser.run(
        "return [...document.getElementById('projection').options].map((o) => o.text)"
    )
    assert offered == ["principal components", "UMAP"]
    chosen = "document.getElementById('projection')"
    browser.run(
        f"{chosen}.value = 'umap';{chosen}.dispatchEvent(new Event('change', {{ bubbles: true }}))"
    )
    browser.wait(f"{caption}.includes('UMAP of their vectors')", seconds=120)
    assert "variance" not in browser.run(f"return {caption}")
    assert "projection=umap" in browser.run("return location.search")
    answered(browser, "(Ada, knows, ?)")
