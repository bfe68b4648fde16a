// Keeps the newest state of Nexudus records in SQLite. ../README.md describes the behaviour.
import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer, type Message, ProduceAcks, Producer } from '@platformatic/kafka'
import { type Change, parse, Records, Rejected } from './records.ts'

const attempts = 5
const constraintViolation = 19

const setting = (name: string, otherwise: string) => process.env[name] ?? otherwise
const bootstrapBrokers = setting('KAFKA_BOOTSTRAP_SERVERS', 'localhost:9092').split(',')
const groupId = setting('KAFKA_GROUP', 'nexudus-records')
const topics = setting('KAFKA_TOPICS', 'nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete').split(',')
const deadLetterTopic = setting('DEAD_LETTER_TOPIC', 'nexudus-records.dead-letters')
const logMilliseconds = Number(setting('LOG_SECONDS', '10')) * 1000

const records = new Records(setting('DATABASE', 'records.db'))
const producer = new Producer({ clientId: groupId, bootstrapBrokers, acks: ProduceAcks.ALL, idempotent: true, retries: true })
const consumer = new Consumer({
  clientId: groupId,
  groupId,
  bootstrapBrokers,
  retries: true,
  sessionTimeout: 10_000,
  rebalanceTimeout: 30_000,
  heartbeatInterval: 1_000,
  maxWaitTime: 1_000,
  highWaterMark: 200
})

async function apply (change: Change): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    try {
      return records.apply(change)
    } catch (error) {
      const { errcode, message } = error as Error & { errcode?: number }
      if (attempt < attempts) {
        await sleep(50 * 2 ** attempt)
      } else if (((errcode ?? 0) & 0xff) === constraintViolation) {
        throw new Rejected('refused_by_database', message)
      } else {
        throw error // the database is out of order
      }
    }
  }
}

/** Publishes a copy with its headers, the reason and the position, and waits for the acknowledgement. */
async function deadLetter (message: Message, reason: Rejected): Promise<void> {
  const position = `${message.topic}/${message.partition}/${message.offset}`
  console.warn(`dead letter: ${position}: ${reason.cause}: ${reason.message}`)
  const headers = new Map(message.headerEntries)
  for (const [key, value] of Object.entries({ cause: reason.cause, detail: reason.message, position })) {
    headers.set(Buffer.from(`dead-letter-${key}`), Buffer.from(value))
  }
  await producer.send({ messages: [{ topic: deadLetterTopic, key: message.key, value: message.value, headers }] })
}

const counts = { applied: 0, duplicates: 0, deadLetters: 0 }
const text = () => `applied=${counts.applied} duplicates=${counts.duplicates} dead_letters=${counts.deadLetters}`
let lag = 0n
consumer.on('consumer:lag', offsets => {
  lag = [...offsets.values()].flat().reduce((sum, behind) => sum + (behind > 0n ? behind : 0n), 0n)
})
consumer.on('consumer:lag:error', error => console.warn(`kafka: ${error.message}`))
const log = setInterval(() => console.info(`progress ${text()} lag=${lag}`), logMilliseconds)

let stopping = false
const stream = await consumer.consume({ topics, mode: 'committed', fallbackMode: 'earliest', autocommit: false })
consumer.startLagMonitoring({ topics }, logMilliseconds)
process.once('SIGTERM', () => {
  stopping = true
  stream.close().catch(error => console.warn(`kafka: ${error.message}`))
})

// Commits in the background, but only messages that were handled. Those of one moment travel together.
let committed: Promise<void> = Promise.resolve()
for await (const message of stream) {
  if (stopping) break
  try {
    if (await apply(parse(message))) counts.applied++
    else counts.duplicates++
  } catch (reason) {
    if (!(reason instanceof Rejected)) throw reason
    await deadLetter(message, reason)
    counts.deadLetters++
  }
  committed = Promise.resolve(message.commit()).catch(error => console.warn(`kafka: ${error.message}`))
}
await committed
clearInterval(log)
consumer.stopLagMonitoring()
await consumer.close(true) // leaves the group
await producer.close()
records.close()
console.info(`stopped ${text()}`)
