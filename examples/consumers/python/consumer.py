"""Keeps the newest state of Nexudus records in SQLite. ../README.md describes the behaviour; start with apply for your own."""

import contextlib
import json
import logging
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Consumer, KafkaException, Message, Producer

HERE = Path(__file__).parent
ACTIONS = json.loads((HERE / "actions.json").read_text())  # entity and kind of each action, by ce_type
REQUIRED = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time")
INSERT = "INSERT INTO changes (ce_id, entity, id, ce_time, json) VALUES (?, ?, ?, ?, ?)"


class Rejected(Exception):
    """The reason for a dead letter: cause and detail."""


def apply(db: sqlite3.Connection, message: Message) -> str:
    """Applies an event in one transaction and returns the name of the count. Skips signals, unknown actions and tombstones."""
    if message.value() is None:
        return "skipped"
    headers = dict(message.headers() or [])
    try:
        if not all(headers.get(name) for name in REQUIRED):  # the SDK would make up an id
            raise ValueError("a required attribute is missing")
        # The SDK checks the attributes. The value stays apart: it is stored as it came.
        attributes = from_binary(KafkaMessage(headers, None, b"{}"), JSONFormat()).get_attributes()
    except Exception as error:
        raise Rejected("invalid_event", "a required attribute of CloudEvents is missing or invalid") from error
    action = ACTIONS.get(attributes["type"])
    if not action or action["kind"] == "signal":
        return "skipped"
    try:
        text = message.value().decode()
        record_id = json.loads(text)["Id"]
        if type(record_id) is not int or record_id.bit_length() > 63:
            raise TypeError
    except (KeyError, TypeError, ValueError) as error:
        raise Rejected("invalid_record", "the value is not a JSON object with an integer Id") from error
    state = (None, None) if action["kind"] == "delete" else (headers["ce_time"].decode(), text)
    rows = db.execute(INSERT, (attributes["id"], action["entity"], record_id, *state)).rowcount
    return "applied" if rows else "duplicates"


def retry(db: sqlite3.Connection, message: Message) -> str:
    for pause in (0.1, 0.2, 0.4, 0.8):
        try:
            return apply(db, message)
        except sqlite3.Error:
            time.sleep(pause)
    try:
        return apply(db, message)
    except sqlite3.IntegrityError as error:  # any other error ends the program: the database is out of order
        raise Rejected("refused_by_database", str(error)) from error


def dead_letter(producer: Producer, message: Message, cause: str, detail: str) -> None:
    """Publishes a copy with its headers, the reason and the position, and waits for the delivery report."""
    topic = os.environ.get("DEAD_LETTER_TOPIC", "nexudus-records.dead-letters")
    position = f"{message.topic()}/{message.partition()}/{message.offset()}"
    logging.warning("dead letter: %s: %s: %s", position, cause, detail)
    reason = {"dead-letter-cause": cause, "dead-letter-detail": detail, "dead-letter-position": position}
    headers = [*(message.headers() or []), *reason.items()]
    errors = []
    producer.produce(topic, message.value(), message.key(), headers=headers, on_delivery=lambda e, _: errors.append(e))
    producer.flush()
    if errors[0]:
        raise KafkaException(errors[0])


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    db = sqlite3.connect(os.environ.get("DATABASE", "records.db"), isolation_level=None)  # a statement is a transaction
    db.executescript((HERE / "schema.sql").read_text())
    brokers = {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")}
    producer = Producer(brokers | {"enable.idempotence": True})
    consumer = Consumer(brokers | {
        "group.id": os.environ.get("KAFKA_GROUP", "nexudus-records"),
        "auto.offset.reset": "earliest", "session.timeout.ms": 10_000,
        # Commits in the background, at a rebalance and at the end, but only offsets that were stored after the work.
        "enable.auto.offset.store": False,
        "auto.commit.interval.ms": 1_000,
    })
    topics = os.environ.get("KAFKA_TOPICS", "nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete")
    consumer.subscribe(topics.split(","))
    counts, next_log = {"applied": 0, "duplicates": 0, "skipped": 0, "dead_letters": 0}, 0.0
    while not stopped.is_set():
        if time.monotonic() >= next_log:
            next_log = time.monotonic() + float(os.environ.get("LOG_SECONDS", "10"))
            read = [p for p in consumer.position(consumer.assignment()) if p.offset >= 0]
            lag = sum(max(0, consumer.get_watermark_offsets(p, cached=True)[1] - p.offset) for p in read)
            logging.info("progress %s lag=%d", " ".join(f"{name}={count}" for name, count in counts.items()), lag)
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            logging.warning("kafka: %s", message.error())
            continue
        try:
            counts[retry(db, message)] += 1
        except Rejected as reason:
            dead_letter(producer, message, *reason.args)
            counts["dead_letters"] += 1
        with contextlib.suppress(KafkaException):  # after a rebalance, the partition's next member drops the duplicate
            consumer.store_offsets(message)
    consumer.close()  # commits what was stored and leaves the group
    logging.info("stopped %s", " ".join(f"{name}={count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
