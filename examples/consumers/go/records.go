// The work itself: from an event to a row. Replace this file with your own.
package main

import (
	"database/sql"
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/twmb/franz-go/pkg/kgo"
)

const upsert = `INSERT INTO records (entity, id, updated_on, json) VALUES (?, ?, ?, ?)
	ON CONFLICT (entity, id) DO UPDATE SET updated_on = excluded.updated_on, json = excluded.json
	WHERE records.json IS NOT NULL AND (excluded.json IS NULL OR excluded.updated_on >= records.updated_on)`

//go:embed schema.sql
var schema string

var eventType = regexp.MustCompile(`^com\.nexudus\.(\w+)(Create|Update|Delete)d?$`)
var eventTime = regexp.MustCompile(`^(.{19})(?:\.(\d*))?Z$`)

type change struct {
	ceID, entity    string
	id              int64
	updatedOn, json any // nil for a delete
}

// rejected is the reason for a dead letter.
type rejected struct{ cause, detail string }

func (r rejected) Error() string { return r.cause + ": " + r.detail }

func parse(record *kgo.Record) (change, error) {
	headers := map[string]string{}
	for _, header := range record.Headers {
		headers[header.Key] = string(header.Value)
	}
	kind, at := eventType.FindStringSubmatch(headers["ce_type"]), eventTime.FindStringSubmatch(headers["ce_time"])
	if headers["ce_specversion"] != "1.0" || headers["ce_id"] == "" || headers["ce_source"] == "" || kind == nil || at == nil {
		return change{}, rejected{"invalid_event", "not a CloudEvent of a create, an update or a delete"}
	}
	var content struct {
		ID *int64 `json:"Id"`
	}
	if json.Unmarshal(record.Value, &content) != nil || content.ID == nil {
		return change{}, rejected{"invalid_record", "the value is not a JSON object with an integer Id"}
	}
	c := change{ceID: headers["ce_id"], entity: kind[1], id: *content.ID}
	if kind[2] != "Delete" { // nine digits behind the second: text order is time order
		c.updatedOn, c.json = fmt.Sprintf("%s.%sZ", at[1], (at[2] + "000000000")[:9]), string(record.Value)
	}
	return c, nil
}

// apply applies a change in one transaction. It returns false for a duplicate.
func apply(db *sql.DB, c change) (bool, error) {
	tx, err := db.Begin()
	if err != nil {
		return false, err
	}
	defer tx.Rollback() // without effect after Commit
	result, err := tx.Exec("INSERT OR IGNORE INTO events (ce_id) VALUES (?)", c.ceID)
	if err != nil {
		return false, err
	}
	if rows, err := result.RowsAffected(); err != nil || rows == 0 {
		return false, err
	}
	if _, err := tx.Exec(upsert, c.entity, c.id, c.updatedOn, c.json); err != nil {
		return false, err
	}
	return true, tx.Commit()
}
