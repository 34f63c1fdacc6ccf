"""Puts the heat maps of a page of `moerge route --html` into one SVG: python make.py PAGE.html PICTURE.svg"""

import re
import sys
from pathlib import Path

page, picture = map(Path, sys.argv[1:])
html = page.read_text()
style = re.search(r"<style>(.*?)</style>", html, re.S).group(1)
# The colours, light and dark, and what is said of drawings.
style = style[: style.index("* {")].replace("color-scheme: light dark;", "") + "\n".join(
    line for line in style.splitlines() if re.match(r"(svg text|\.cell|\.heat)", line)
)
maps = re.findall(r"<figure><figcaption>(.*?) <small>(.*?)</small></figcaption>(<svg.*?</svg>)", html, re.S)
parts, x, height = [], 0, 0
for name, tokens, svg in maps:
    w, h = map(int, re.search(r'width="(\d+)" height="(\d+)"', svg).groups())
    svg = re.sub(r' role="img" aria-label="[^"]*"', "", svg).replace("<svg ", f'<svg x="{x}" y="22" ', 1)
    parts.append(f'<text class="own" x="{x + 84}" y="14">{name}, {tokens}</text>{svg}')
    x, height = x + w + 16, max(height, h + 22)
picture.write_text(
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x} {height}" width="{x}" height="{height}">'
    f'<style>{style}</style><rect width="100%" height="100%" fill="var(--page)"/>{"".join(parts)}</svg>\n'
)
