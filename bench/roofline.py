"""A roofline as SVG: speed against arithmetic intensity, both logarithmic.

Each model is a point per measurement: generation reads all weights for one
token (left), a step of eight streams for eight, a prompt's step for hundreds
(right). Filled: ours; hollow: llama.cpp. The roof is what the machine did in
the same run: the slope its reading, the flat part its 8-bit multiplication.
"""
import math
import statistics

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 70, 230, 40, 60
COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94", "#8d6a1f")
# Tokens that one pass over the weights serves.
TOKENS = {"generate_tok_s": 1, "streams_tok_s": 8, "prompt_tok_s": 256}


def svg(everything):
    limits = [entry["limits"] for entry in everything.values()]
    roof = max(limit["int8_ops_s"] for limit in limits)
    read = max(limit["read_bytes_s"] for limit in limits)
    points = []
    for model, (name, entry) in enumerate(everything.items()):
        ops, size = entry["limits"]["token_ops"], entry["limits"]["token_bytes"]
        for key, sides in entry["measured"].items():
            for side, values in sides.items():
                points.append((TOKENS[key] * ops / size,
                               statistics.median(values) * ops, model, side,
                               f"{name}, {key.split('_')[0]}"))
    x_low, x_high = 1.0, 2 ** math.ceil(math.log2(max(p[0] for p in points)))
    y_low = 2 ** math.floor(math.log2(min(p[1] for p in points)))
    y_high = 2 ** math.ceil(math.log2(roof * 1.2))

    def x(value):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(
            value / x_low) / math.log(x_high / x_low)

    def y(value):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(
            value / y_low) / math.log(y_high / y_low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
           f'height="{HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    tick = x_low
    while tick <= x_high:
        out.append(f'<text x="{x(tick):.0f}" y="{HEIGHT - BOTTOM + 18}" '
                   f'text-anchor="middle">{tick:g}</text>')
        tick *= 4
    tick = y_low
    while tick <= y_high:
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" '
                   f'y2="{y(tick):.1f}" stroke="#e4e4e4"/>'
                   f'<text x="{LEFT - 8}" y="{y(tick) + 4:.0f}" '
                   f'text-anchor="end">{tick / 1e9:.3g}</text>')
        tick *= 2
    knee = min(max(roof / read, x_low), x_high)
    start = max(x_low, y_low / read)
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in (
        (start, start * read), (knee, roof), (x_high, roof)))
    out.append(f'<polyline points="{path}" fill="none" stroke="#555" '
               'stroke-width="2"/>')
    for at, value, model, side, label in points:
        fill = COLOURS[model % len(COLOURS)] if side == "ours" else "white"
        out.append(f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="5" '
                   f'fill="{fill}" stroke="{COLOURS[model % len(COLOURS)]}" '
                   f'stroke-width="2"><title>{label}, {side}: '
                   f'{value / 1e9:.1f} GOP/s</title></circle>')
    for model, name in enumerate(everything):
        at = TOP + 18 * model
        out.append(f'<circle cx="{WIDTH - RIGHT + 22}" cy="{at}" r="5" '
                   f'fill="{COLOURS[model % len(COLOURS)]}"/>'
                   f'<text x="{WIDTH - RIGHT + 34}" y="{at + 4}">{name[:30]}'
                   '</text>')
    at = TOP + 18 * len(everything) + 8
    for line in ("filled: ours; hollow: llama.cpp", "left to right: one stream,",
                 "eight streams, prompt",
                 f"roof: {read / 1e9:.0f} GB/s, {roof / 1e9:.0f} GOP/s"):
        out.append(f'<text x="{WIDTH - RIGHT + 16}" y="{at}">{line}</text>')
        at += 16
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 16}" '
               'text-anchor="middle">operations per byte of weights</text>'
               f'<text x="16" y="{TOP - 16}">10\u2079 operations per second'
               '</text></svg>')
    return "\n".join(out) + "\n"
