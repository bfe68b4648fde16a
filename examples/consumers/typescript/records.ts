// The work itself: from an event to a row. Replace this file with your own.
import { DatabaseSync } from 'node:sqlite'
import { type CloudEvent, Kafka } from 'cloudevents'
import type { Message } from '@platformatic/kafka'

const schema = `
  PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
  CREATE TABLE IF NOT EXISTS events (
    ce_id TEXT PRIMARY KEY, applied_on TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS records (
    entity TEXT, id INTEGER, updated_on TEXT, deleted INTEGER NOT NULL, json TEXT,
    events INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (entity, id)) WITHOUT ROWID;`
const upsert = `
  INSERT INTO records (entity, id, updated_on, deleted, json) VALUES (?, ?, ?, ?, ?)
  ON CONFLICT (entity, id) DO UPDATE
  SET updated_on = excluded.updated_on, deleted = excluded.deleted, json = excluded.json
  WHERE NOT records.deleted AND (excluded.deleted OR excluded.updated_on >= records.updated_on)`
const count = 'UPDATE records SET events = events + 1 WHERE entity = ? AND id = ?'

export interface Change {
  ceId: string
  entity: string
  id: number
  deleted: boolean
  updatedOn: string
  json: string
}

/** The reason for a dead letter. */
export class Rejected extends Error {
  cause: string

  constructor (cause: string, detail: string) {
    super(detail)
    this.cause = cause
  }
}

export function parse (message: Message): Change {
  const headers = Object.fromEntries(message.headerEntries.map(([key, value]) => [key, value?.toString()]))
  const invalidEvent = () => new Rejected('invalid_event', 'not a CloudEvent of a create, an update or a delete')
  // The SDK checks the required attributes. The value stays apart: it is stored as it came.
  const envelope = { headers, value: '{}', body: '{}' }
  let event: CloudEvent<unknown>
  try {
    event = Kafka.toEvent(envelope) as CloudEvent<unknown>
  } catch {
    throw invalidEvent()
  }
  const kind = /^com\.nexudus\.(\w+)(Create|Update|Delete)d?$/.exec(event.type)
  const at = /^(.{19})(?:\.(\d*))?Z$/.exec(headers.ce_time ?? '') // a Date has three digits, ce_time up to nine
  if (!kind || !at || headers.ce_specversion !== '1.0') throw invalidEvent()
  let id: unknown
  try {
    id = JSON.parse(message.value.toString()).Id
  } catch {} // its message would quote the record
  if (!Number.isSafeInteger(id)) {
    throw new Rejected('invalid_record', 'the value is not a JSON object with an integer Id')
  }
  // Nine digits behind the second: text order is time order.
  const updatedOn = `${at[1]}.${(at[2] ?? '').padEnd(9, '0')}Z`
  const json = message.value.toString()
  return { ceId: event.id, entity: kind[1], id: id as number, deleted: kind[2] === 'Delete', updatedOn, json }
}

export class Records {
  #db: DatabaseSync

  constructor (file: string) {
    this.#db = new DatabaseSync(file)
    this.#db.exec(schema)
  }

  /** Applies a change in one transaction. Returns `false` for a duplicate. */
  apply (change: Change): boolean {
    const run = (sql: string, ...values: (string | number | null)[]) => this.#db.prepare(sql).run(...values)
    run('BEGIN IMMEDIATE')
    try {
      const isNew = run('INSERT OR IGNORE INTO events (ce_id) VALUES (?)', change.ceId).changes === 1
      if (isNew) {
        const newest = change.deleted ? [null, 1, null] : [change.updatedOn, 0, change.json]
        run(upsert, change.entity, change.id, ...newest)
        run(count, change.entity, change.id)
      }
      run('COMMIT')
      return isNew
    } catch (error) {
      if (this.#db.isTransaction) run('ROLLBACK')
      throw error
    }
  }

  close (): void {
    this.#db.close()
  }
}
