"""The page of `moerge serve` in headless Chromium: it chats, colours tokens, draws the map, and asks no other machine.

    python page.py URL [--key KEY] [--shots FOLDER] [--chromium /usr/bin/chromium]

URL serves any MoE. Needs playwright from PyPI and a Chromium (Debian's package will do).
"""

import argparse
import json
from pathlib import Path

from playwright.sync_api import sync_playwright

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("--key", help="what the server was given as --api-key")
parser.add_argument("--shots", type=Path)
parser.add_argument("--chromium", default="/usr/bin/chromium")
parser.add_argument("--prompt", default="Problem: Nadia has 128 shells and Leo has 64. def add(a, b): And it came to pass")
arguments = parser.parse_args()

SHOWN = "document.getElementById('side').classList.contains('shown')"


def finished(page):
    page.wait_for_selector("#send:not([hidden])", state="attached", timeout=120_000)


def set_number(page, name, value):
    page.evaluate("([name, value]) => document.getElementById(name).value = value", [name, str(value)])


def set_layer(page, layer):
    slide = "l => { const s = document.getElementById('layer'); s.value = l; s.dispatchEvent(new Event('input')) }"
    page.evaluate(slide, layer)


def answer(experts, layers, count, reason="stop", total=20):
    """A stream of `count` tokens as the server sends it: routers may be so sure that a real one shows one expert only."""
    pieces = ["```\n", "a", "\n```\n"] + [" word"] * (count - 3)
    events = []
    for token, piece in enumerate(pieces):
        routes = [[[(token + layer) % experts, 0.75], [(token + layer + 1) % experts, 0.25]] for layer in range(layers)]
        choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
        events.append({"choices": [choice], "moerge": {"experts": routes}})
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    events.append({"choices": [], "usage": {"total_tokens": total}})
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


def give_key(page):
    """Without the key nothing works, a wrong one is told, the right one opens the page."""
    page.wait_for_selector("#keys:not([hidden])")
    assert not page.is_visible("#key-wrong") and page.evaluate(SHOWN)
    page.fill("#key", arguments.key + "?")
    page.press("#key", "Enter")
    page.wait_for_selector("#key-wrong", state="visible")
    page.fill("#key", arguments.key)
    page.press("#key", "Enter")
    page.wait_for_selector("#legend span")
    assert not page.is_visible("#key-wrong") and not page.evaluate(SHOWN)


def looks_right(page, width):
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"the page is {wide} pixels too wide"
    boxes = page.evaluate("""['#ask', '.turn.user'].map(s => document.querySelector(s).getBoundingClientRect().right)""")
    assert abs(boxes[0] - boxes[1] - 16) < 2, f"the user's messages are not at the right: {boxes}"
    cut = page.evaluate("const f = document.getElementById('facts'); f.scrollWidth - f.clientWidth")
    assert cut <= 0, f"the facts are cut at {width} pixels"


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
    for device, width, height in [("desktop", 1280, 800), ("phone", 390, 844)]:
        for scheme in ["light", "dark"]:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(20_000)
            problems, asked = [], []
            page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(arguments.url)
            if arguments.key:
                give_key(page)
                problems.clear()  # Chromium reports each 401
            page.wait_for_selector("#legend span")
            phone = device == "phone"
            layers = int(page.get_attribute("#layer", "max"))
            names = page.locator("#legend span").count()
            assert page.is_visible("#hint") and not page.is_visible("#last")
            if phone:
                page.click("#open")
            page.fill("#temperature", "0.8")
            page.fill("#seed", "1")
            if phone:
                page.click("#close")
                page.wait_for_timeout(300)

            # The model answers.
            set_number(page, "max_tokens", 100)
            page.fill("#text", arguments.prompt)
            page.press("#text", "Enter")
            page.locator(".turn.assistant .t").first.wait_for(state="attached", timeout=120_000)
            finished(page)
            experts = page.evaluate("[...document.querySelectorAll('.t')].map(t => t.dataset.expert)")
            painted = page.evaluate("getComputedStyle(document.querySelector('.t')).backgroundColor")
            cells = page.locator("#map rect.cell").count()
            assert experts and None not in experts, experts
            assert "rgba(0, 0, 0, 0)" != painted, painted
            assert cells == layers * names > 0, (cells, layers, names)
            assert not page.is_visible("#hint")
            looks_right(page, width)
            if arguments.shots:
                arguments.shots.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=arguments.shots / f"{device}-{scheme}.png")
                if phone:
                    page.click("#open")
                    page.wait_for_timeout(300)
                    page.screenshot(path=arguments.shots / f"{device}-{scheme}-settings.png")
                    page.click("#close")
                    page.wait_for_timeout(300)

            # What looks like HTML is text. The answer is as long as the context lets it be, and is stopped, or was faster.
            set_number(page, "max_tokens", 4000)
            page.fill("#text", "<img src=x onerror=alert(1)>")
            page.press("#text", "Enter")
            page.locator(".turn.assistant").nth(1).locator(".t").first.wait_for(state="attached", timeout=120_000)
            page.evaluate("document.getElementById('stop').click()")
            finished(page)
            assert page.locator("#talk img").count() == 0
            assert page.locator(".turn.user").nth(1).text_content() == "<img src=x onerror=alert(1)>"
            page.click("#reset")
            assert page.locator("#talk > *").count() == 0 and page.is_visible("#hint")

            # Answers made up here: every expert has tokens, and each layer others.
            told = {"body": answer(names, layers, 12)}
            page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", **told))

            def ask():
                page.fill("#text", "Go on")
                page.press("#text", "Enter")
                page.wait_for_timeout(100)
                finished(page)
                return page.locator(".turn.assistant .meta").last.text_content()

            first = "document.querySelector('.t').dataset.expert"
            meta = ask()
            assert "12 tokens" in meta and "cut" not in meta, meta
            for layer in range(1, min(layers, names) + 1):
                set_layer(page, layer)
                assert page.text_content("#layer-name") == f"layer {layer - 1}"
                assert page.evaluate(first) == str(layer - 1)
            shown = page.evaluate("[...document.querySelectorAll('.t')].map(t => t.dataset.expert)")
            assert len(set(shown)) == min(names, 12), shown
            set_layer(page, 0)
            fonts = page.evaluate("[...document.querySelectorAll('.t')].map(t => getComputedStyle(t).fontFamily)")
            assert ["monospace" in font for font in fonts] == [True] * 3 + [False] * 9, fonts
            told["body"] = answer(names, layers, 12, "length")
            meta = ask()
            assert "cut at" in meta, meta
            told["body"] = answer(names, layers, 12, "length", total=10_000_000)
            meta = ask()
            assert "context" in meta and "full" in meta, meta

            # One that never comes is stopped.
            page.unroute("**/v1/chat/completions")
            held = []
            page.route("**/v1/chat/completions", lambda route: held.append(route))
            page.fill("#text", "Wait")
            page.press("#text", "Enter")
            page.click("#stop")
            finished(page)
            assert "stopped" in page.locator(".turn.assistant .meta").last.text_content()
            for route in held:
                route.abort()

            assert all(url.startswith(arguments.url) or url.startswith("data:") for url in asked), asked
            assert not problems, problems
            print(f"{device} {scheme}: {len(experts)} tokens, {len(set(experts))} of {names} experts, {cells} cells")
            context.close()
    browser.close()
