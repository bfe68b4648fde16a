// The work itself: from an event to a row. Replace this file with your own.
import { readFileSync } from 'node:fs'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { type CloudEvent, Kafka } from 'cloudevents'
import type { Message } from '@platformatic/kafka'

const upsert = `
  INSERT INTO records (entity, id, updated_on, json) VALUES (?, ?, ?, ?)
  ON CONFLICT (entity, id) DO UPDATE SET updated_on = excluded.updated_on, json = excluded.json
  WHERE records.json IS NOT NULL AND (excluded.json IS NULL OR excluded.updated_on >= records.updated_on)`

export interface Change {
  ceId: string
  entity: string
  id: number
  updatedOn: string | null // null for a delete, as json
  json: string | null
}

/** The reason for a dead letter. */
export class Rejected extends Error {
  constructor (cause: string, detail: string) {
    super(detail, { cause })
  }
}

export function parse (message: Message): Change {
  const headers = Object.fromEntries(message.headerEntries.map(([key, value]) => [key, value?.toString()]))
  let event: CloudEvent<unknown> | undefined
  try {
    // The SDK checks the required attributes. The value stays apart: it is stored as it came.
    event = Kafka.toEvent({ headers, value: '{}', body: '{}' }) as CloudEvent<unknown>
  } catch {}
  const kind = /^com\.nexudus\.(\w+)(Create|Update|Delete)d?$/.exec(event?.type ?? '')
  const at = /^(.{19})(?:\.(\d*))?Z$/.exec(headers.ce_time ?? '') // a Date has three digits, ce_time up to nine
  if (!event || !kind || !at || headers.ce_specversion !== '1.0') {
    throw new Rejected('invalid_event', 'not a CloudEvent of a create, an update or a delete')
  }
  let id: unknown
  try {
    id = JSON.parse(message.value.toString()).Id
  } catch {} // its message would quote the record
  if (!Number.isSafeInteger(id)) {
    throw new Rejected('invalid_record', 'the value is not a JSON object with an integer Id')
  }
  const isDelete = kind[2] === 'Delete'
  // Nine digits behind the second: text order is time order.
  const updatedOn = isDelete ? null : `${at[1]}.${(at[2] ?? '').padEnd(9, '0')}Z`
  return { ceId: event.id, entity: kind[1], id: id as number, updatedOn, json: isDelete ? null : message.value.toString() }
}

export function open (file: string): DatabaseSync {
  const db = new DatabaseSync(file)
  db.exec(readFileSync(new URL('schema.sql', import.meta.url), 'utf8'))
  return db
}

/** Applies a change in one transaction. Returns `false` for a duplicate. */
export function apply (db: DatabaseSync, change: Change): boolean {
  const run = (sql: string, ...values: SQLInputValue[]) => db.prepare(sql).run(...values)
  run('BEGIN IMMEDIATE')
  try {
    const isNew = run('INSERT OR IGNORE INTO events (ce_id) VALUES (?)', change.ceId).changes === 1
    if (isNew) run(upsert, change.entity, change.id, change.updatedOn, change.json)
    run('COMMIT')
    return isNew
  } catch (error) {
    if (db.isTransaction) run('ROLLBACK')
    throw error
  }
}
