"""A processing script: multiplies every row of its input."""

import argparse
import pathlib

parser = argparse.ArgumentParser()
parser.add_argument("--factor", type=float, required=True)
factor = parser.parse_args().factor
for path in sorted(pathlib.Path("/opt/ml/processing/input/rows").glob("*.csv")):
    rows = [float(line) * factor for line in path.read_text().splitlines()]
    pathlib.Path("/opt/ml/processing/output", path.name).write_text("".join(f"{row}\n" for row in rows))
    print(f"{path.name}: {len(rows)} rows", flush=True)
