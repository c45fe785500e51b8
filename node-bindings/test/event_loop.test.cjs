// The event loop stays free while Kappa works: timers and other requests of the process go on.
'use strict'

const assert = require('node:assert/strict')
const { monitorEventLoopDelay } = require('node:perf_hooks')
const { test } = require('node:test')
const { kappa, directory } = require('./support.cjs')

const { Kappa, histogram } = kappa

test('64 durable writes in flight and a draw of 10^8 leave the event loop free', { timeout: 60_000 }, async (t) => {
  const db = await Kappa.open(directory(t))
  const delays = monitorEventLoopDelay({ resolution: 1 })
  let drawn = false
  let turns = 0
  const turn = () => {
    turns += 1
    if (!drawn) setImmediate(turn)
  }
  setImmediate(turn)
  delays.enable()
  const drawing = histogram(10 ** 8).then((answer) => {
    drawn = true
    return answer
  })
  let written = 0
  const writer = async (name) => {
    for (let n = 0; !drawn || n < 20; n++) {
      await db.users.create({ id: `${name}-${n}`, name: 'Ana', email: 'ana@example.com', tags: ['a', 'b', 'c'] })
      written += 1
    }
  }
  await Promise.all([drawing, ...Array.from({ length: 64 }, (_, name) => writer(name))])
  delays.disable()
  const p99 = delays.percentile(99) / 1e6
  t.diagnostic(`${written} durable writes, ${turns} turns of the loop, p99 of its delay ${p99.toFixed(1)} ms`)
  assert.equal(await db.users.count(), written)
  assert.ok(turns > 20, `the loop turned ${turns} times`)
  // A loop that waited for the disk or the draw would be hundreds of milliseconds late; a busy machine is not.
  assert.ok(p99 < 200, `p99 ${p99} ms`)
  await db.close()
})

// Answers come while callers use the answers before: handed over as they come, they would keep the loop for as long as
// writers write.
test('answers that bring forth new calls leave the loop its turns', { timeout: 60_000 }, async () => {
  const db = await Kappa.inMemory()
  let [written, sinceTurn, most] = [0, 0, 0]
  let writing = true
  const turn = () => {
    most = Math.max(most, sinceTurn)
    sinceTurn = 0
    if (writing) setImmediate(turn)
  }
  setImmediate(turn)
  const writer = async () => {
    while (written < 20_000) {
      await db.users.create({ number: written++ })
      sinceTurn += 1
    }
  }
  await Promise.all(Array.from({ length: 256 }, writer))
  writing = false
  assert.equal(await db.users.count(), written)
  // Each writer has at most one answer that was there at once; of those that came later a turn takes 64.
  assert.ok(most <= 256 + 64, `${most} answers in one turn`)
  await db.close()
})

test('a long answer is handed over in turns', async () => {
  const db = await Kappa.inMemory()
  const text = 'x'.repeat(100_000)
  await Promise.all(Array.from({ length: 50 }, (_, n) => db.users.create({ id: String(n), text })))
  const users = await Promise.all(Array.from({ length: 50 }, (_, n) => db.users.get(String(n))))
  assert.ok(users.every((user, n) => user.id === String(n) && user.text === text))
  await db.close()
})

// Each of these has a bound; what is over it is refused, and what was refused can be tried again.
test('more reads than may wait are refused as overload, and the rest is answered', async () => {
  const db = await Kappa.inMemory()
  await db.users.create({ id: 'a' })
  const results = await Promise.allSettled(Array.from({ length: 150_000 }, () => db.users.get('a')))
  const refused = results.filter(({ status }) => status === 'rejected')
  for (const { reason } of refused) assert.equal(reason.code, 'overloaded', reason.stack)
  assert.ok(results.length - refused.length >= 100_000)
  assert.deepEqual(await db.users.get('a'), { id: 'a' })
  await db.close()
})
