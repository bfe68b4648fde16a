"""Looks at a consumer's database for tests/consumers: database.py FILE count|prepare TEXT|dump"""

import json
import sqlite3
import sys

file, command = sys.argv[1:3]
db = sqlite3.connect(file, timeout=60, isolation_level=None)
if command == "count":
    print(db.execute("SELECT count(*) FROM events").fetchone()[0])
elif command == "prepare":
    # Counts the transactions that apply a change, also those that leave the row as it is, and refuses some rows.
    db.executescript(
        f"""CREATE TABLE applied (entity TEXT, id INTEGER);
            CREATE INDEX applied_record ON applied (entity, id);
            CREATE TRIGGER count_changes BEFORE INSERT ON records BEGIN INSERT INTO applied VALUES (NEW.entity, NEW.id); END;
            CREATE TRIGGER refuse BEFORE INSERT ON records WHEN NEW.json LIKE '%{sys.argv[3]}%'
            BEGIN SELECT RAISE(ABORT, 'refused by the test'); END;"""
    )
elif command == "dump":
    records = db.execute(
        """SELECT entity, id, updated_on, json, (SELECT count(*) FROM applied AS a WHERE (a.entity, a.id) = (r.entity, r.id))
           FROM records AS r"""
    ).fetchall()
    events = [row[0] for row in db.execute("SELECT ce_id FROM events")]
    json.dump({"records": records, "events": events}, sys.stdout)
