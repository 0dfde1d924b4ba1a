"""Drawings of a report: functions from data to text, inline SVG that fits a desk and a phone.

Each gives one `<div class="plot">` with the drawing twice, for wide and for narrow places, of which
`style.PLOT_STYLE` shows the one that fits: the page has it once, in its `<style>`. Colours are the
custom properties of that style; text and axes take the page's `currentColor`. Equal data give equal
text. `canvas.svg_file` makes a file of its own of a drawing, for a README. ValueError: nothing to
draw, where the page says what is missing.
"""
