"""For check: dashboards against Grafana's models, and what models cannot say.

check.py FILE...

Each dashboard is read by the models and written again: what is lost or different then, Grafana does not know.
"""

import json
import sys

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

# Fields that Grafana uses and its models lack: the text of a variable's query, and the fields that Prometheus's editor of
# annotations adds.
BEYOND_THE_MODELS = {
    ("templating", "definition"),
    ("annotations", "step"),
    ("annotations", "textFormat"),
    ("annotations", "titleFormat"),
}

COLUMNS = 24


def differences(ours, theirs, path=()):
    """What of ours the models do not give back."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from differences(value, theirs[key], (*path, key))
            elif (path and (path[0], key)) not in BEYOND_THE_MODELS:
                yield "/".join(map(str, (*path, key))) + " is not known"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs)):
            yield from differences(*pair, (*path, number))
    elif ours != theirs:
        yield f"{'/'.join(map(str, path))} is {ours!r}, and read as {theirs!r}"


def arrangement(panels):
    """Numbers that are taken twice, and panels that lie outside or one on another."""
    taken = {}
    numbers = set()
    for panel in panels:
        name, number, place = panel["title"], panel["id"], panel["gridPos"]
        if number in numbers:
            yield f"{name}: the number {number} is taken"
        numbers.add(number)
        if place["x"] + place["w"] > COLUMNS:
            yield f"{name}: it does not fit into {COLUMNS} columns"
        columns = range(place["x"], place["x"] + place["w"])
        rows = range(place["y"], place["y"] + place["h"])
        squares = [(column, row) for column in columns for row in rows]
        yield from {f"{name}: it lies on {taken[square]}" for square in squares if square in taken}
        taken.update(dict.fromkeys(squares, name))


def main(files):
    plugins.register_default_plugins()
    mistakes = 0
    for file in files:
        with open(file, encoding="utf-8") as text:
            dashboard = json.load(text)
        read = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
        for mistake in [*differences(dashboard, read), *arrangement(dashboard["panels"])]:
            print(f"{file}: {mistake}", file=sys.stderr)
            mistakes += 1
    return min(mistakes, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
