// Bars are for terminals: whoever reads standard error from a file gets none.
'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { inMemory, inner, run, failure } = require('./support.cjs')

const { watched, line } = inner('progress.cjs')

const task = (progress) => ({ queue: 'work', id: 1024, state: 'active', progress })

/** A terminal of so many columns that keeps what is written, and tells of the first line. */
function terminal(columns) {
  const made = { isTTY: true, columns, written: '' }
  made.drawn = new Promise((resolve) => {
    made.write = (text) => {
      made.written += text
      resolve()
    }
  })
  return made
}

// A program that waits for a task whose handler does not end before the bar was drawn, or would have been.
const PROGRAM = `
const { Kappa } = require('kappa-core')
const [terminal] = process.argv.slice(1)
if (terminal === 'terminal') process.stderr.isTTY = true
const write = process.stderr.write.bind(process.stderr)
let end
const drawn = new Promise((resolve) => { end = resolve })
process.stderr.write = (text) => { if (text.includes('50%')) end(); return write(text) }
void (async () => {
  const db = await Kappa.inMemory()
  const worker = db.worker('work', async (task) => {
    task.progress(0.5)
    await Promise.race([drawn, new Promise((resolve) => setTimeout(resolve, terminal === 'terminal' ? 20_000 : 700))])
    return 'done'
  })
  const { id } = await db.tasks.enqueue('work')
  console.log((await db.tasks.wait(id, { progress: true })).result)
  await worker.stop()
  await db.close()
})()
`

test('a terminal shows how far a task is, and is left clean', async () => {
  const { exit, stdout, stderr } = await run(PROGRAM, { args: ['terminal'] })
  assert.deepEqual([exit, stdout], [0, 'done\n'], stderr)
  assert.match(stderr, /work 1024 active: {2}50%\|#{10} {10}\| 00:\d\d/)
  assert.ok(stderr.endsWith('\r\x1b[2K'), JSON.stringify(stderr))
})

test('nobody else is shown anything', async () => {
  const { exit, stdout, stderr } = await run(PROGRAM, { args: ['file'] })
  assert.deepEqual([exit, stdout, stderr], [0, 'done\n', ''])
})

// A line that is wider than the terminal would leave one line behind each time that it is drawn.
test('a line fits into its terminal', () => {
  for (const columns of [10, 40, 80]) {
    assert.ok(line(task(0.5), 61_000, columns).length < columns, `columns=${columns}`)
  }
  assert.equal(line(task(null), 61_000, 80), `work 1024 active:   0%|${' '.repeat(20)}| 01:01`)
  assert.equal(line(task(1), 0, 80), `work 1024 active: 100%|${'#'.repeat(20)}| 00:00`)
})

// A bar must change neither what is answered nor whether it fails, also where the task cannot be read meanwhile.
test('a wait that shows ends as any other', async (t) => {
  const db = await inMemory(t)
  assert.equal((await failure(() => db.tasks.wait(7, { progress: true }))).code, 'not_found')
  assert.equal((await failure(() => db.tasks.wait(7, { progress: 'yes' }))).code, 'invalid_input')
  const { id } = await db.tasks.enqueue('nobody')
  const cancelled = await failure(() => db.tasks.wait(id, { progress: true, signal: AbortSignal.timeout(50) }))
  assert.equal(cancelled.code, 'cancelled')

  const seen = terminal(80)
  let asked
  const unreadable = new Promise((resolve) => { asked = resolve })
  const standing = async () => {
    asked()
    throw new Error('the database is closed')
  }
  assert.equal(await watched(unreadable.then(() => 'the answer'), standing, seen), 'the answer')
  const shown = terminal(80)
  await assert.rejects(watched(shown.drawn.then(() => Promise.reject(new Error('it failed'))), async () => task(0.25), shown), /it failed/)
  assert.match(shown.written, /25%/)
  assert.ok(shown.written.endsWith('\r\x1b[2K'))
})

// A database that answers slowly must not be asked again and again, and what it says behind the end must not stay on the line
// of whoever goes on there.
test('one question is asked at a time, and nothing is drawn behind the end', async () => {
  const shown = terminal(80)
  let asked = 0
  let began
  let answer
  const begun = new Promise((resolve) => { began = resolve })
  const standing = () => {
    asked++
    began()
    return new Promise((resolve) => { answer = resolve })
  }
  // The time of several steps of the bar.
  const ended = begun.then(() => new Promise((resolve) => setTimeout(resolve, 700, 'the answer')))
  assert.equal(await watched(ended, standing, shown), 'the answer')
  assert.equal(asked, 1)
  answer(task(0.5))
  await new Promise(setImmediate)
  assert.equal(shown.written, '')
})
