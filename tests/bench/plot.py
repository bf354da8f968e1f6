"""Stacked horizontal bars as SVG: what an outage is made of, fault by fault, beside the bare floor."""

import html

COLOURS = {"detection": "#c44e52", "fencing": "#dd8452", "promotion": "#4c72b0", "re-attachment": "#55a868",
           "all of it": "#8c8c8c"}
LEFT, WIDTH, BAR, GAP, TOP = 190, 640, 22, 14, 56


def _text(x, y, text, anchor="start", size=13):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}">'
            f'{html.escape(text)}</text>')


def _legend():
    out, x = [], LEFT
    for name, colour in COLOURS.items():
        out += [f'<rect x="{x}" y="30" width="12" height="12" fill="{colour}"/>', _text(x + 17, 41, name)]
        x += 32 + 8 * len(name)
    return out


def _tick(longest):
    for step in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000):
        if longest / step <= 10:
            return step
    return 10000


def bars(title, rows):
    """rows: [(label, {part of COLOURS: ms})]. Returns the SVG's text."""
    longest = max(sum(parts.values()) for _, parts in rows) or 1
    scale, bottom = WIDTH / longest, TOP + len(rows) * (BAR + GAP)
    out = [_text(LEFT, 18, title, size=15)] + _legend()
    for at in range(0, int(longest) + 1, _tick(longest)):
        x = LEFT + at * scale
        out += [f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>',
                _text(x, bottom + 16, f"{at} ms", "middle", 11)]
    for i, (label, parts) in enumerate(rows):
        y, x = TOP + i * (BAR + GAP), float(LEFT)
        out.append(_text(LEFT - 8, y + 16, label, "end"))
        for name, ms in parts.items():
            out.append(f'<rect x="{x:.1f}" y="{y}" width="{max(ms, 0) * scale:.1f}" height="{BAR}" '
                       f'fill="{COLOURS[name]}"/>')
            x += max(ms, 0) * scale
        out.append(_text(x + 6, y + 16, f"{sum(parts.values()):.0f}", size=12))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 70}" height="{bottom + 28}" '
            f'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n'
            + "\n".join(out) + "\n</svg>\n")
