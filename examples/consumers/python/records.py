"""The work itself: from an event to a row. Replace this file with your own."""

import json
import re
import sqlite3
from typing import NamedTuple

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Message

UPSERT = """
INSERT INTO records (entity, id, updated_on, json) VALUES (?, ?, ?, ?)
ON CONFLICT (entity, id) DO UPDATE SET updated_on = excluded.updated_on, json = excluded.json
WHERE records.json IS NOT NULL AND (excluded.json IS NULL OR excluded.updated_on >= records.updated_on)
"""
REQUIRED = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time")
TYPE = re.compile(r"com\.nexudus\.(\w+)(Create|Update|Delete)d?")
TIME = re.compile(r"(.{19})(?:\.(\d*))?Z")


class Rejected(Exception):
    """The reason for a dead letter: cause and detail."""


class Change(NamedTuple):
    ce_id: str
    entity: str
    id: int
    updated_on: str | None  # None for a delete, as json
    json: str | None


def parse(message: Message) -> Change:
    headers = dict(message.headers() or [])
    try:
        if not all(headers.get(name) for name in REQUIRED):  # the SDK would make up an id
            raise ValueError("a required attribute is missing")
        # The SDK checks the attributes. The value stays apart: it is stored as it came.
        attributes = from_binary(KafkaMessage(headers, None, b"{}"), JSONFormat()).get_attributes()
        entity, verb = TYPE.fullmatch(attributes["type"]).groups()
        seconds, fraction = TIME.fullmatch(headers["ce_time"].decode()).groups()  # a datetime has six digits only
    except Exception as error:
        raise Rejected("invalid_event", "not a CloudEvent of a create, an update or a delete") from error
    try:
        text = message.value().decode()
        record_id = json.loads(text)["Id"]
        if type(record_id) is not int:
            raise TypeError
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Rejected("invalid_record", "the value is not a JSON object with an integer Id") from error
    if verb == "Delete":
        return Change(attributes["id"], entity, record_id, None, None)
    # Nine digits behind the second: text order is time order.
    return Change(attributes["id"], entity, record_id, f"{seconds}.{fraction or '':0<9}Z", text)


def apply(db: sqlite3.Connection, change: Change) -> bool:
    """Applies a change in one transaction. Returns False for a duplicate."""
    with db:  # commits, or rolls back when an exception passes
        db.execute("BEGIN IMMEDIATE")
        if not db.execute("INSERT OR IGNORE INTO events (ce_id) VALUES (?)", (change.ce_id,)).rowcount:
            return False
        db.execute(UPSERT, change[1:])
        return True
