// Keeps the newest state of Nexudus records in SQLite. ../README.md describes the behaviour.
import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer, type Message, ProduceAcks, Producer } from '@platformatic/kafka'
import { apply, type Change, open, parse, Rejected } from './records.ts'

const warn = (error: Error) => console.warn(`kafka: ${error.message}`)
const setting = (name: string, otherwise: string) => process.env[name] ?? otherwise
const bootstrapBrokers = setting('KAFKA_BOOTSTRAP_SERVERS', 'localhost:9092').split(',')
const groupId = setting('KAFKA_GROUP', 'nexudus-records')
const topics = setting('KAFKA_TOPICS', 'nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete').split(',')
const deadLetterTopic = setting('DEAD_LETTER_TOPIC', 'nexudus-records.dead-letters')
const logMilliseconds = Number(setting('LOG_SECONDS', '10')) * 1000

const db = open(setting('DATABASE', 'records.db'))
const producer = new Producer({ clientId: groupId, bootstrapBrokers, acks: ProduceAcks.ALL, idempotent: true, retries: true })
const timing = { sessionTimeout: 10_000, rebalanceTimeout: 30_000, heartbeatInterval: 1_000, maxWaitTime: 1_000 }
const consumer = new Consumer({ clientId: groupId, groupId, bootstrapBrokers, retries: true, highWaterMark: 200, ...timing })

async function retry (change: Change): Promise<boolean> {
  for (let pause = 100; ; pause *= 2) {
    try {
      return apply(db, change)
    } catch (error) {
      const { errcode = 0, message } = error as Error & { errcode?: number }
      if (pause <= 800) await sleep(pause)
      else if ((errcode & 0xff) === 19 /* SQLITE_CONSTRAINT */) throw new Rejected('refused_by_database', message)
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

const counts = { applied: 0, duplicates: 0, deadLetters: 0 }
const text = () => `applied=${counts.applied} duplicates=${counts.duplicates} dead_letters=${counts.deadLetters}`
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
    if (await retry(parse(message))) counts.applied++
    else counts.duplicates++
  } catch (reason) {
    if (!(reason instanceof Rejected)) throw reason
    await deadLetter(message, reason)
    counts.deadLetters++
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
