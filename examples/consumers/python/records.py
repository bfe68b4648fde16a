"""The work itself: from an event to a row. Replace this file with your own."""

import json
import re
import sqlite3
from dataclasses import dataclass

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Message

SCHEMA = """
PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS events (
    ce_id TEXT PRIMARY KEY, applied_on TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    entity TEXT, id INTEGER, updated_on TEXT, deleted INTEGER NOT NULL, json TEXT,
    events INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (entity, id)) WITHOUT ROWID;
"""
UPSERT = """
INSERT INTO records (entity, id, updated_on, deleted, json) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (entity, id) DO UPDATE
SET updated_on = excluded.updated_on, deleted = excluded.deleted, json = excluded.json
WHERE NOT records.deleted AND (excluded.deleted OR excluded.updated_on >= records.updated_on)
"""
COUNT = "UPDATE records SET events = events + 1 WHERE entity = ? AND id = ?"
REQUIRED = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time")
TYPE = re.compile(r"com\.nexudus\.(\w+)(Create|Update|Delete)d?")
TIME = re.compile(r"(.{19})(?:\.(\d*))?Z")


class Rejected(Exception):
    """The reason for a dead letter: cause and detail."""


@dataclass
class Change:
    ce_id: str
    entity: str
    id: int
    deleted: bool
    updated_on: str
    json: str


def parse(message: Message) -> Change:
    headers = dict(message.headers() or [])
    try:
        if not all(headers.get(name) for name in REQUIRED):  # the SDK would make up an id
            raise ValueError("a required attribute is missing")
        # The SDK checks the attributes. The value stays apart: it is stored as it came.
        attributes = from_binary(KafkaMessage(headers, None, b"{}"), JSONFormat()).get_attributes()
        kind = TYPE.fullmatch(attributes["type"])
        at = TIME.fullmatch(headers["ce_time"].decode())  # a datetime has six digits, ce_time up to nine
        entity, verb = kind.groups()
        # Nine digits behind the second: text order is time order.
        updated_on = f"{at[1]}.{at[2] or '':0<9}Z"
    except Exception as error:
        raise Rejected("invalid_event", "not a CloudEvent of a create, an update or a delete") from error
    try:
        text = message.value().decode()
        record_id = json.loads(text)["Id"]
        if type(record_id) is not int:
            raise TypeError
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Rejected("invalid_record", "the value is not a JSON object with an integer Id") from error
    return Change(attributes["id"], entity, record_id, verb == "Delete", updated_on, text)


def apply(db: sqlite3.Connection, change: Change) -> bool:
    """Applies a change in one transaction. Returns False for a duplicate."""
    with db:  # commits, or rolls back when an exception passes
        db.execute("BEGIN IMMEDIATE")
        if not db.execute("INSERT OR IGNORE INTO events (ce_id) VALUES (?)", (change.ce_id,)).rowcount:
            return False
        newest = (None, True, None) if change.deleted else (change.updated_on, False, change.json)
        db.execute(UPSERT, (change.entity, change.id, *newest))
        db.execute(COUNT, (change.entity, change.id))
        return True
