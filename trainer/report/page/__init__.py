"""The page of a report: blocks of text, tables and drawings, rendered as one self-contained HTML.

Only `Drawing.svg` is markup; all else that blocks are given is text, escaped, and what it holds of
control characters is made visible. The page opens from disk, asks the network for nothing, and its
policy (a Content-Security-Policy by hash) lets run nothing but `page.js`. `blocks` has what a page
is made of, `render.render` makes it.
"""
