// Keeps the newest state of Nexudus records in SQLite. ../README.md describes the behaviour.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const attempts = 5

func handle(db *sql.DB, record *kgo.Record) (bool, error) {
	c, err := parse(record)
	if err != nil {
		return false, err
	}
	for attempt := 1; ; attempt++ {
		applied, err := apply(db, c)
		var refusal *sqlite.Error
		switch {
		case err == nil:
			return applied, nil
		case attempt < attempts:
			time.Sleep(50 * time.Millisecond << attempt)
		case errors.As(err, &refusal) && refusal.Code()&0xff == sqlite3.SQLITE_CONSTRAINT:
			return false, rejected{"refused_by_database", err.Error()}
		default: // the database is out of order
			return false, err
		}
	}
}

// deadLetter publishes a copy with its headers, the reason and the position, and waits for the acknowledgement.
func deadLetter(client *kgo.Client, topic string, record *kgo.Record, reason rejected) error {
	position := fmt.Sprintf("%s/%d/%d", record.Topic, record.Partition, record.Offset)
	slog.Warn("dead letter", "position", position, "reason", reason)
	headers := append([]kgo.RecordHeader{}, record.Headers...)
	for key, value := range map[string]string{"cause": reason.cause, "detail": reason.detail, "position": position} {
		headers = append(headers, kgo.RecordHeader{Key: "dead-letter-" + key, Value: []byte(value)})
	}
	letter := &kgo.Record{Topic: topic, Key: record.Key, Value: record.Value, Headers: headers}
	return client.ProduceSync(context.Background(), letter).FirstErr()
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func run() error {
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	db, err := sql.Open("sqlite", "file:"+setting("DATABASE", "records.db")+pragmas)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec(schema); err != nil {
		return err
	}
	logEvery, err := time.ParseDuration(setting("LOG_SECONDS", "10") + "s")
	if err != nil {
		return err
	}
	topics := setting("KAFKA_TOPICS", "nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete")
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(setting("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"), ",")...),
		kgo.ConsumerGroup(setting("KAFKA_GROUP", "nexudus-records")),
		kgo.ConsumeTopics(strings.Split(topics, ",")...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(10*time.Second),
		// Commits in the background and at a rebalance, but only records that were marked after the work.
		kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second), kgo.BlockRebalanceOnPoll(),
	)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance() // leaves the group
	applied, duplicates, deadLetters, ends, nextLog := 0, 0, 0, map[string]int64{}, time.Now()
	for stopped.Err() == nil {
		if time.Now().After(nextLog) {
			lag := int64(0)
			for _, behind := range ends {
				lag += behind
			}
			slog.Info(fmt.Sprintf("progress applied=%d duplicates=%d dead_letters=%d lag=%d", applied, duplicates, deadLetters, lag))
			nextLog = time.Now().Add(logEvery)
		}
		poll, cancel := context.WithTimeout(stopped, logEvery)
		fetches := client.PollRecords(poll, 100)
		cancel()
		fetches.EachError(func(topic string, partition int32, err error) {
			if poll.Err() == nil {
				slog.Warn("kafka", "topic", topic, "partition", partition, "error", err)
			}
		})
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if n := len(p.Records); n > 0 {
				ends[fmt.Sprint(p.Topic, p.Partition)] = p.HighWatermark - p.Records[n-1].Offset - 1
			}
		})
		for iterator := fetches.RecordIter(); !iterator.Done() && stopped.Err() == nil; {
			record := iterator.Next()
			isNew, err := handle(db, record)
			var reason rejected
			switch {
			case errors.As(err, &reason):
				if err := deadLetter(client, setting("DEAD_LETTER_TOPIC", "nexudus-records.dead-letters"), record, reason); err != nil {
					return err
				}
				deadLetters++
			case err != nil:
				return err
			case isNew:
				applied++
			default:
				duplicates++
			}
			client.MarkCommitRecords(record)
		}
		client.AllowRebalance()
	}
	slog.Info(fmt.Sprintf("stopped applied=%d duplicates=%d dead_letters=%d", applied, duplicates, deadLetters))
	return client.CommitMarkedOffsets(context.Background())
}

func main() {
	if err := run(); err != nil {
		slog.Error("failed", "error", err)
		os.Exit(1)
	}
}
