// Keeps the newest state of Nexudus records in SQLite. ../README.md describes the behaviour.
package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// retry applies a record, with five attempts.
func retry(db *sql.DB, record *kgo.Record) (bool, error) {
	c, err := parse(record)
	if err != nil {
		return false, err
	}
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		isNew, err := apply(db, c)
		if err == nil {
			return isNew, nil
		} else if pause < time.Second {
			time.Sleep(pause)
		} else if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT {
			return false, rejected{"refused_by_database", err.Error()}
		} else {
			return false, err // the database is out of order
		}
	}
}

// deadLetter publishes a copy with its headers, the reason and the position, and waits for the acknowledgement.
func deadLetter(client *kgo.Client, record *kgo.Record, reason rejected) error {
	position := fmt.Sprintf("%s/%d/%d", record.Topic, record.Partition, record.Offset)
	slog.Warn("dead letter:", "position", position, "reason", reason)
	headers := slices.Clone(record.Headers)
	for key, value := range map[string]string{"cause": reason.cause, "detail": reason.detail, "position": position} {
		headers = append(headers, kgo.RecordHeader{Key: "dead-letter-" + key, Value: []byte(value)})
	}
	topic := cmp.Or(os.Getenv("DEAD_LETTER_TOPIC"), "nexudus-records.dead-letters")
	letter := &kgo.Record{Topic: topic, Key: record.Key, Value: record.Value, Headers: headers}
	return client.ProduceSync(context.Background(), letter).FirstErr()
}

// must ends the program on an error, without a commit.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	stopped, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	pragmas := "?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)" // of each connection
	db := must(sql.Open("sqlite", "file:"+cmp.Or(os.Getenv("DATABASE"), "records.db")+pragmas))
	must(db.Exec(schema))
	logEvery := must(time.ParseDuration(cmp.Or(os.Getenv("LOG_SECONDS"), "10") + "s"))
	brokers := cmp.Or(os.Getenv("KAFKA_BOOTSTRAP_SERVERS"), "localhost:9092")
	topics := cmp.Or(os.Getenv("KAFKA_TOPICS"), "nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete")
	client := must(kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.ConsumerGroup(cmp.Or(os.Getenv("KAFKA_GROUP"), "nexudus-records")),
		kgo.ConsumeTopics(strings.Split(topics, ",")...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(10*time.Second),
		// Commits in the background and at a rebalance, but only records that were marked after the work.
		kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second), kgo.BlockRebalanceOnPoll(),
	))
	applied, duplicates, deadLetters, nextLog := 0, 0, 0, time.Now()
	lag, behind := int64(0), map[string]int64{}
	for stopped.Err() == nil {
		if time.Now().After(nextLog) {
			nextLog = time.Now().Add(logEvery)
			slog.Info("progress", "applied", applied, "duplicates", duplicates, "dead_letters", deadLetters, "lag", lag)
		}
		poll, cancel := context.WithTimeout(stopped, logEvery)
		fetches := client.PollRecords(poll, 100)
		cancel()
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if p.Err != nil && stopped.Err() == nil && !errors.Is(p.Err, context.DeadlineExceeded) {
				slog.Warn("kafka", "topic", p.Topic, "partition", p.Partition, "error", p.Err)
			}
			if n := len(p.Records); n > 0 {
				partition, now := fmt.Sprint(p.Topic, p.Partition), p.HighWatermark-p.Records[n-1].Offset-1
				lag, behind[partition] = lag+now-behind[partition], now
			}
		})
		for _, record := range fetches.Records() {
			isNew, err := retry(db, record)
			if reason, ok := errors.AsType[rejected](err); ok {
				must(0, deadLetter(client, record, reason))
				deadLetters++
			} else if must(isNew, err) {
				applied++
			} else {
				duplicates++
			}
			client.MarkCommitRecords(record)
		}
		client.AllowRebalance()
	}
	must(0, client.CommitMarkedOffsets(context.Background()))
	client.CloseAllowingRebalance() // leaves the group
	slog.Info("stopped", "applied", applied, "duplicates", duplicates, "dead_letters", deadLetters)
}
