#!/usr/bin/env python3
"""Draws what a terminal shows as SVG: text with the colours of SGR sequences, on standard input, as
`tmux capture-pane -p -e` prints it, or any text.

    screen.py TITLE < TEXT > PICTURE.svg
"""
import re
import sys
import unicodedata
from xml.sax.saxutils import escape

SIZE, LINE, WIDE, EDGE = 13, 18, 7.8, 12
COLOURS = ["#24292f", "#cf222e", "#116329", "#7d4e00", "#0550ae", "#8250df", "#1b7c83", "#57606a"]
INK, PAPER = "#24292f", "#ffffff"


def colour(number):
    return COLOURS[7] if number >= 8 else COLOURS[number]


class Pen:
    """How characters look from here on."""

    def __init__(self):
        self.ink, self.bold, self.reverse = INK, False, False

    def obey(self, codes):
        codes = [int(code or 0) for code in codes.split(";")]
        while codes:
            code = codes.pop(0)
            if code == 0:
                self.__init__()
            elif code == 1:
                self.bold = True
            elif code in (7, 27):
                self.reverse = code == 7
            elif 30 <= code <= 37:
                self.ink = colour(code - 30)
            elif 90 <= code <= 97:
                self.ink = colour(8)
            elif code == 38 and codes[:1] == [5]:
                self.ink = colour(codes[1])
                del codes[:2]
            elif code == 39:
                self.ink = INK

    def look(self):
        return self.ink, self.bold, self.reverse


def columns(text):
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def main():
    title = sys.argv[1]
    lines = sys.stdin.read().rstrip("\n").split("\n")
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    width = int(max(columns(line) for line in plain + [title]) * WIDE) + 2 * EDGE
    height = LINE * (len(lines) + 1) + 2 * EDGE
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
          f'font-family="monospace" font-size="{SIZE}">')
    print(f'<rect width="{width}" height="{height}" rx="6" fill="{PAPER}" stroke="#d0d7de"/>')
    print(f'<text x="{EDGE}" y="{EDGE + SIZE}" fill="{COLOURS[7]}" xml:space="preserve">{escape("$ " + title)}</text>')
    pen = Pen()
    for row, line in enumerate(lines, 1):
        y, at = EDGE + row * LINE + SIZE, 0
        for part in re.split(r"(\x1b\[[0-9;]*m)", line):
            if part.startswith("\x1b["):
                pen.obey(part[2:-1])
                continue
            if not part:
                continue
            ink, bold, reverse = pen.look()
            x, wide = EDGE + at * WIDE, columns(part) * WIDE
            if reverse:
                print(f'<rect x="{x:.1f}" y="{y - SIZE}" width="{wide:.1f}" height="{LINE}" fill="{ink}"/>')
                ink = PAPER
            if part.strip():
                weight = ' font-weight="bold"' if bold else ""
                print(f'<text x="{x:.1f}" y="{y}" fill="{ink}"{weight} textLength="{wide:.1f}" '
                      f'xml:space="preserve">{escape(part)}</text>')
            at += columns(part)
    print("</svg>")


main()
