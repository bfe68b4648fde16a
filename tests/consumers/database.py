"""Looks at a consumer's database for tests/consumers: database.py FILE count|refuse TEXT|dump"""

import json
import sqlite3
import sys

file, command = sys.argv[1:3]
db = sqlite3.connect(file, timeout=60, isolation_level=None)
if command == "count":
    print(db.execute("SELECT count(*) FROM events").fetchone()[0])
elif command == "refuse":
    db.execute(
        f"""CREATE TRIGGER refuse BEFORE INSERT ON records WHEN NEW.json LIKE '%{sys.argv[3]}%'
            BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"""
    )
elif command == "dump":
    records = db.execute("SELECT entity, id, updated_on, deleted, json, events FROM records").fetchall()
    events = [row[0] for row in db.execute("SELECT ce_id FROM events")]
    json.dump({"records": records, "events": events}, sys.stdout)
