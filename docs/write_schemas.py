"""Write the schemas beside this file: `python docs/write_schemas.py`, where a type has changed."""

from pathlib import Path

from pytest_memreq.reports.schema import BASELINE, REPORT, schema_of, to_text

for name, file in {"memreq": REPORT, "memreq-baseline": BASELINE}.items():
    path = Path(__file__).with_name(f"{name}.schema.json")
    path.write_text(to_text(schema_of(file)), encoding="utf-8")
