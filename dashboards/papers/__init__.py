"""What the papers print, as data: tables, claims, and an audit of both.

One YAML a table, figure or passage; `load.py` reads them into the types of `published.py`, `claims.py` checks what the
papers say about them, `audit.py` looks for numbers that cannot be.
"""
