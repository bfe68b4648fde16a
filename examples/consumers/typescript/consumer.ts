// Keeps the newest state of Nexudus records in SQLite. ../README.md describes the behaviour; start with apply for your own.
import { readFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer, type Message, ProduceAcks, Producer } from '@platformatic/kafka'
import { type CloudEvent, Kafka } from 'cloudevents'

const warn = (error: Error) => console.warn(`kafka: ${error.message}`)
const setting = (name: string, otherwise: string) => process.env[name] ?? otherwise
const file = (name: string) => readFileSync(new URL(name, import.meta.url), 'utf8')
const bootstrapBrokers = setting('KAFKA_BOOTSTRAP_SERVERS', 'localhost:9092').split(',')
const groupId = setting('KAFKA_GROUP', 'nexudus-records')
const topics = setting('KAFKA_TOPICS', 'nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete').split(',')
const deadLetterTopic = setting('DEAD_LETTER_TOPIC', 'nexudus-records.dead-letters')
const logMilliseconds = Number(setting('LOG_SECONDS', '10')) * 1000

const actions: Partial<Record<string, { entity: string, kind: 'change' | 'delete' | 'signal' }>> = JSON.parse(file('actions.json'))
const db = new DatabaseSync(setting('DATABASE', 'records.db'))
db.exec(file('schema.sql'))
const insert = db.prepare('INSERT INTO changes (ce_id, entity, id, ce_time, json) VALUES (?, ?, ?, ?, ?)')
const producer = new Producer({ clientId: groupId, bootstrapBrokers, acks: ProduceAcks.ALL, idempotent: true, retries: true })
const timing = { sessionTimeout: 10_000, rebalanceTimeout: 30_000, heartbeatInterval: 1_000, maxWaitTime: 1_000 }
const consumer = new Consumer({ clientId: groupId, groupId, bootstrapBrokers, retries: true, highWaterMark: 200, ...timing })

/** The reason for a dead letter. */
class Rejected extends Error {
  constructor (cause: string, detail: string) {
    super(detail, { cause })
  }
}

/** Applies an event in one transaction and returns the name of the count. Skips signals, unknown actions and tombstones. */
function apply (message: Message): 'applied' | 'duplicates' | 'skipped' {
  if (!message.value) return 'skipped'
  const headers = Object.fromEntries(message.headerEntries.map(([key, value]) => [key, value?.toString()]))
  const withoutValue = { headers, value: '{}', body: '{}' } // it is stored as it came
  let event: CloudEvent<unknown> | undefined
  try {
    event = Kafka.toEvent(withoutValue) as CloudEvent<unknown> // checks the required attributes
  } catch {}
  const action = actions[event?.type ?? '']
  if (!event || !headers.ce_time || headers.ce_specversion !== '1.0') {
    throw new Rejected('invalid_event', 'a required attribute of CloudEvents is missing or invalid')
  }
  if (!action || action.kind === 'signal') return 'skipped'
  const json = message.value.toString()
  let id: unknown
  try {
    id = JSON.parse(json).Id
  } catch {} // its message would quote the record
  if (!Number.isSafeInteger(id)) {
    throw new Rejected('invalid_record', 'the value is not a JSON object with an integer Id')
  }
  const [ceTime, state] = action.kind === 'delete' ? [null, null] : [headers.ce_time, json]
  return insert.run(event.id, action.entity, id as number, ceTime, state).changes ? 'applied' : 'duplicates'
}

async function retry (message: Message): Promise<ReturnType<typeof apply>> {
  for (let pause = 100; ; pause *= 2) {
    try {
      return apply(message)
    } catch (error) {
      const { errcode, message: detail } = error as Error & { errcode?: number }
      if (errcode === undefined) throw error // no error of SQLite
      if (pause <= 800) await sleep(pause)
      else if ((errcode & 0xff) === 19 /* SQLITE_CONSTRAINT */) throw new Rejected('refused_by_database', detail)
      else throw error // the database is out of order
    }
  }
}

/** Publishes a copy with its headers, the reason and the position, and waits for the acknowledgement. */
async function deadLetter (message: Message, reason: Rejected): Promise<void> {
  const position = `${message.topic}/${message.partition}/${message.offset}`
  console.warn(`dead letter: ${position}: ${reason.cause}: ${reason.message}`)
  const headers = new Map(message.headerEntries)
  for (const [key, value] of Object.entries({ cause: String(reason.cause), detail: reason.message, position })) {
    headers.set(Buffer.from(`dead-letter-${key}`), Buffer.from(value))
  }
  await producer.send({ messages: [{ topic: deadLetterTopic, key: message.key, value: message.value, headers }] })
}

const counts = { applied: 0, duplicates: 0, skipped: 0, dead_letters: 0 }
const text = () => Object.entries(counts).map(([name, count]) => `${name}=${count}`).join(' ')
let lag = 0n
consumer.on('consumer:lag', all => { lag = [...all.values()].flat().reduce((sum, n) => sum + (n > 0n ? n : 0n), 0n) })
consumer.on('consumer:lag:error', warn)
const log = setInterval(() => console.info(`progress ${text()} lag=${lag}`), logMilliseconds)

let stopping = false
const stream = await consumer.consume({ topics, mode: 'committed', fallbackMode: 'earliest', autocommit: false })
consumer.startLagMonitoring({ topics }, logMilliseconds)
process.once('SIGTERM', () => {
  stopping = true
  stream.close().catch(warn)
})

// Commits in the background, but only messages that were handled. Those of one moment travel together.
let committed: Promise<void> = Promise.resolve()
for await (const message of stream) {
  if (stopping) break
  try {
    counts[await retry(message)]++
  } catch (reason) {
    if (!(reason instanceof Rejected)) throw reason
    await deadLetter(message, reason)
    counts.dead_letters++
  }
  committed = Promise.resolve(message.commit()).catch(warn)
}
await committed
clearInterval(log)
consumer.stopLagMonitoring()
await consumer.close(true) // leaves the group
await producer.close()
db.close()
console.info(`stopped ${text()}`)
