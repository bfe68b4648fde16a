// Keeps the newest state of Nexudus records in SQLite. ../README.md describes the behaviour; start with apply for your own.
package main

import (
	"cmp"
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	//go:embed schema.sql
	schema string
	//go:embed actions.json
	actionsJSON []byte
	// actions has entity and kind of each action, by ce_type.
	actions map[string]struct{ Entity, Kind string }
)

// rejected is the reason for a dead letter.
type rejected struct{ cause, detail string }

func (r rejected) Error() string { return r.cause + ": " + r.detail }

// apply applies an event in one transaction and returns the name of the count. It skips signals, unknown actions and tombstones.
func apply(db *sql.DB, record *kgo.Record) (string, error) {
	header := map[string]string{}
	for _, h := range record.Headers {
		header[h.Key] = string(h.Value)
	}
	action, isKnown := actions[header["ce_type"]]
	var content struct{ ID *int64 } // the decoder ignores case
	var ceTime, value any = header["ce_time"], string(record.Value)
	switch {
	case record.Value == nil || action.Kind == "signal" || !isKnown && header["ce_type"] != "":
		return "skipped", nil
	case !isKnown || header["ce_specversion"] != "1.0" || header["ce_id"] == "" || header["ce_source"] == "" || ceTime == "":
		return "", rejected{"invalid_event", "a required attribute of CloudEvents is missing or invalid"}
	case json.Unmarshal(record.Value, &content) != nil || content.ID == nil:
		return "", rejected{"invalid_record", "the value is not a JSON object with an integer Id"}
	case action.Kind == "delete":
		ceTime, value = nil, nil
	}
	insert := "INSERT INTO changes (ce_id, entity, id, ce_time, json) VALUES (?, ?, ?, ?, ?)"
	result, err := db.Exec(insert, header["ce_id"], action.Entity, *content.ID, ceTime, value)
	if err != nil {
		return "", err
	} else if rows, err := result.RowsAffected(); rows == 0 {
		return "duplicates", err
	}
	return "applied", nil
}

// retry applies a record, with five attempts.
func retry(db *sql.DB, record *kgo.Record) (string, error) {
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		count, err := apply(db, record)
		failure, isFailure := errors.AsType[*sqlite.Error](err)
		if isFailure && pause < time.Second {
			time.Sleep(pause)
		} else if isFailure && failure.Code()&0xff == sqlite3.SQLITE_CONSTRAINT {
			return "", rejected{"refused_by_database", err.Error()}
		} else {
			return count, err // any other error ends the program: the database is out of order
		}
	}
}

// deadLetter publishes a copy with its headers, the reason and the position, and waits for the acknowledgement.
func deadLetter(client *kgo.Client, record *kgo.Record, reason rejected) error {
	position := fmt.Sprintf("%s/%d/%d", record.Topic, record.Partition, record.Offset)
	log.Printf("dead letter: %s: %v", position, reason)
	letter := &kgo.Record{Key: record.Key, Value: record.Value, Headers: record.Headers}
	letter.Topic = cmp.Or(os.Getenv("DEAD_LETTER_TOPIC"), "nexudus-records.dead-letters")
	for key, value := range map[string]string{"cause": reason.cause, "detail": reason.detail, "position": position} {
		letter.Headers = append(letter.Headers, kgo.RecordHeader{Key: "dead-letter-" + key, Value: []byte(value)})
	}
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
	must(0, json.Unmarshal(actionsJSON, &actions))
	pragmas := "?_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)" // of each connection
	db := must(sql.Open("sqlite", "file:"+cmp.Or(os.Getenv("DATABASE"), "records.db")+pragmas))
	must(db.Exec(schema))
	logEvery := must(time.ParseDuration(cmp.Or(os.Getenv("LOG_SECONDS"), "10") + "s"))
	topics := cmp.Or(os.Getenv("KAFKA_TOPICS"), "nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete")
	client := must(kgo.NewClient(
		kgo.SeedBrokers(strings.Split(cmp.Or(os.Getenv("KAFKA_BOOTSTRAP_SERVERS"), "localhost:9092"), ",")...),
		kgo.ConsumerGroup(cmp.Or(os.Getenv("KAFKA_GROUP"), "nexudus-records")), kgo.SessionTimeout(10*time.Second),
		kgo.ConsumeTopics(strings.Split(topics, ",")...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// Commits in the background and at a rebalance, but only records that were marked after the work.
		kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second), kgo.BlockRebalanceOnPoll(),
	))
	n, nextLog, lag, behind := map[string]int{}, time.Now(), int64(0), map[string]int64{}
	counts := func() string {
		return fmt.Sprintf("applied=%d duplicates=%d skipped=%d dead_letters=%d", n["applied"], n["duplicates"], n["skipped"], n["dead_letters"])
	}
	for stopped.Err() == nil {
		if time.Now().After(nextLog) {
			nextLog = time.Now().Add(logEvery)
			log.Printf("progress %s lag=%d", counts(), lag)
		}
		poll, cancel := context.WithTimeout(stopped, logEvery)
		fetches := client.PollRecords(poll, 100)
		cancel()
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if p.Err != nil && stopped.Err() == nil && !errors.Is(p.Err, context.DeadlineExceeded) {
				log.Printf("kafka: %s/%d: %v", p.Topic, p.Partition, p.Err)
			} else if last := len(p.Records) - 1; last >= 0 {
				partition, now := fmt.Sprint(p.Topic, p.Partition), p.HighWatermark-p.Records[last].Offset-1
				lag, behind[partition] = lag+now-behind[partition], now
			}
		})
		for _, record := range fetches.Records() {
			count, err := retry(db, record)
			if reason, ok := errors.AsType[rejected](err); ok {
				count, err = "dead_letters", deadLetter(client, record, reason)
			}
			n[must(count, err)]++
			client.MarkCommitRecords(record)
		}
		client.AllowRebalance()
	}
	must(0, client.CommitMarkedOffsets(context.Background()))
	client.CloseAllowingRebalance() // leaves the group
	log.Println("stopped", counts())
}
