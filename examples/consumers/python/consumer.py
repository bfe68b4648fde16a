"""Keeps the newest state of Nexudus records in SQLite. ../README.md describes the behaviour."""

import logging
import os
import signal
import sqlite3
import time

from confluent_kafka import Consumer, KafkaException, Message, Producer

from records import SCHEMA, Rejected, apply, parse

ATTEMPTS = 5

log = logging.getLogger("consumer")


def handle(db: sqlite3.Connection, message: Message) -> bool:
    change = parse(message)
    for attempt in range(1, ATTEMPTS):
        try:
            return apply(db, change)
        except sqlite3.Error:
            time.sleep(0.05 * 2**attempt)
    try:
        return apply(db, change)
    except sqlite3.IntegrityError as error:  # any other error ends the program: the database is out of order
        raise Rejected("refused_by_database", str(error)) from error


def dead_letter(producer: Producer, topic: str, message: Message, cause: str, detail: str) -> None:
    """Publishes a copy with its headers, the reason and the position, and waits for the delivery report."""
    position = f"{message.topic()}/{message.partition()}/{message.offset()}"
    log.warning("dead letter: %s: %s: %s", position, cause, detail)
    reason = {"dead-letter-cause": cause, "dead-letter-detail": detail, "dead-letter-position": position}
    headers = [*(message.headers() or []), *reason.items()]
    reports = []
    producer.produce(topic, message.value(), message.key(), headers=headers, on_delivery=lambda *r: reports.append(r))
    producer.flush()
    if reports[0][0]:
        raise KafkaException(reports[0][0])


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    brokers = {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")}
    topics = os.environ.get("KAFKA_TOPICS", "nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete")
    dead_letters = os.environ.get("DEAD_LETTER_TOPIC", "nexudus-records.dead-letters")
    log_seconds = float(os.environ.get("LOG_SECONDS", "10"))
    running = True

    def stop(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    db = sqlite3.connect(os.environ.get("DATABASE", "records.db"), isolation_level=None)
    db.executescript(SCHEMA)
    producer = Producer(brokers | {"enable.idempotence": True})
    consumer = Consumer(brokers | {
        "group.id": os.environ.get("KAFKA_GROUP", "nexudus-records"),
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 10_000,
        # Commits in the background, at a rebalance and at the end, but only offsets that were stored after the work.
        "enable.auto.offset.store": False,
        "auto.commit.interval.ms": 1_000,
    })
    consumer.subscribe(topics.split(","))
    applied = duplicates = rejected = 0
    next_log = 0.0
    while running:
        if time.monotonic() >= next_log:
            next_log = time.monotonic() + log_seconds
            ends = {(p.topic, p.partition): consumer.get_watermark_offsets(p, cached=True) for p in consumer.assignment()}
            positions = consumer.position(consumer.assignment())
            lag = sum(max(0, ends[p.topic, p.partition][1] - p.offset) for p in positions if p.offset >= 0)
            log.info("progress applied=%d duplicates=%d dead_letters=%d lag=%d", applied, duplicates, rejected, lag)
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            log.warning("kafka: %s", message.error())
            continue
        try:
            if handle(db, message):
                applied += 1
            else:
                duplicates += 1
        except Rejected as reason:
            dead_letter(producer, dead_letters, message, *reason.args)
            rejected += 1
        try:
            consumer.store_offsets(message)
        except KafkaException as error:  # a rebalance took the partition away; its next member drops the duplicate
            log.warning("kafka: %s", error)
    consumer.close()  # commits what was stored and leaves the group
    log.info("stopped applied=%d duplicates=%d dead_letters=%d", applied, duplicates, rejected)


if __name__ == "__main__":
    main()
