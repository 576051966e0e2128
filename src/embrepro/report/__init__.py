"""The report of a run: its sections, their tables and charts."""

import sys

# altair imports jsonschema, which builds a grammar of IRIs where it finds one: half a second for what no chart holds.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
