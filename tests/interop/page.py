"""The page of `moerge serve` in headless Chromium: it chats, colours tokens, draws the map, and asks no other machine.

    python page.py URL [--shots FOLDER] [--chromium /usr/bin/chromium]

Needs playwright from PyPI and a Chromium (Debian's package will do).
"""

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("--shots", type=Path)
parser.add_argument("--chromium", default="/usr/bin/chromium")
parser.add_argument("--prompt", default="Problem: Nadia has 128 shells and Leo has 64. def add(a, b): And it came to pass")
arguments = parser.parse_args()


def finished(page):
    page.wait_for_selector("#send:not([hidden])", state="attached", timeout=120_000)


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
    for device, width, height in [("desktop", 1280, 800), ("phone", 390, 844)]:
        for scheme in ["light", "dark"]:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            problems, asked = [], []
            page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(arguments.url)
            page.wait_for_selector("#legend span")
            phone = device == "phone"
            if phone:
                page.click("#open")
            page.fill("#temperature", "0.8")
            page.fill("#seed", "1")
            page.evaluate("document.activeElement.blur()")
            if phone:
                page.click("#close")
                page.wait_for_timeout(300)

            page.evaluate("document.getElementById('max_tokens').value = '100'")
            page.fill("#text", arguments.prompt)
            page.press("#text", "Enter")
            finished(page)
            experts = page.evaluate("[...document.querySelectorAll('.t')].map(t => t.dataset.expert)")
            painted = page.evaluate("getComputedStyle(document.querySelector('.t')).backgroundColor")
            cells = page.locator("#map rect.cell").count()
            layers = int(page.get_attribute("#layer", "max"))
            names = page.locator("#legend span").count()
            assert experts and None not in experts and len(set(experts)) > 1, experts
            assert "rgba(0, 0, 0, 0)" != painted, painted
            assert cells == layers * names > 0, (cells, layers, names)
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"the page is {wide} pixels too wide"
            if arguments.shots:
                arguments.shots.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=arguments.shots / f"{device}-{scheme}.png")

            # One layer sees other experts than all together.
            page.evaluate("const l = document.getElementById('layer'); l.value = 2; l.dispatchEvent(new Event('input'))")
            assert page.text_content("#layer-name") == "layer 1"
            if phone:
                page.click("#open")
                page.wait_for_timeout(300)
            if arguments.shots:
                page.screenshot(path=arguments.shots / f"{device}-{scheme}-layer.png")
            if phone:
                page.click("#close")
                page.wait_for_timeout(300)

            # What looks like HTML is text.
            page.evaluate("document.getElementById('max_tokens').value = '400'")
            page.fill("#text", "<img src=x onerror=alert(1)>")
            page.press("#text", "Enter")
            page.locator(".turn.assistant").nth(1).locator(".t").nth(2).wait_for(state="attached")
            page.click("#stop")
            finished(page)
            assert page.locator("#talk img").count() == 0
            page.click("#reset")
            assert page.locator("#talk > *").count() == 0
            assert all(url.startswith(arguments.url) or url.startswith("data:") for url in asked), asked
            assert not problems, problems
            print(f"{device} {scheme}: {len(experts)} tokens, {len(set(experts))} experts, {cells} cells")
            context.close()
    browser.close()
