// The queues on the console page: their counts every two seconds, and a button that pauses or resumes each.
'use strict'

const EVERY_MS = 2000
/** A server that does not answer is asked again after so long. */
const PATIENCE_MS = 10000
const COUNTS = ['waiting', 'delayed', 'active', 'completed', 'failed', 'cancelled']

const body = document.getElementById('queues')
const told = document.getElementById('told')
/** The row of each queue, so that a button under the pointer stays where it is. */
const rows = new Map()
/** Answers to questions asked before the newest one are not shown: they may be older. */
let newest = 0

async function ask(path, method) {
  const reply = await fetch(path, { method, signal: AbortSignal.timeout(PATIENCE_MS) })
  const answer = await reply.json()
  if (!reply.ok) throw new Error(answer.detail ?? reply.statusText)
  return answer
}

function cell(row, kind) {
  const made = document.createElement(kind)
  row.append(made)
  return made
}

function newRow(name) {
  const row = document.createElement('tr')
  const head = cell(row, 'th')
  head.scope = 'row'
  head.textContent = name
  const mark = document.createElement('span')
  mark.className = 'paused'
  head.append(mark)
  const cells = [...COUNTS, 'head'].map(() => cell(row, 'td'))
  const button = document.createElement('button')
  button.type = 'button'
  button.addEventListener('click', () => toggle(name, button))
  cell(row, 'td').append(button)
  return { row, mark, cells, button }
}

/** A time in the largest unit that leaves something before the point. */
function duration(ms) {
  const units = [['d', 86_400_000], ['h', 3_600_000], ['min', 60_000], ['s', 1000]]
  const [unit, size] = units.find(([, size]) => ms >= size) ?? ['ms', 1]
  return `${Math.floor(ms / size)} ${unit}`
}

function show(queues) {
  const names = new Set(queues.map(({ name }) => name))
  for (const [name, { row }] of rows) {
    if (names.has(name)) continue
    row.remove()
    rows.delete(name)
  }
  for (const queue of queues) {
    if (!rows.has(queue.name)) rows.set(queue.name, newRow(queue.name))
    const { row, mark, cells, button } = rows.get(queue.name)
    COUNTS.forEach((state, at) => {
      cells[at].textContent = queue[state].toLocaleString()
      cells[at].className = queue[state] === 0 ? 'zero' : state === 'failed' ? 'bad' : ''
    })
    const head = cells[COUNTS.length]
    head.textContent = queue.waiting === 0 ? '–' : duration(queue.head_waits_ms)
    head.className = queue.waiting === 0 ? 'zero' : ''
    mark.textContent = queue.paused ? ' (paused)' : ''
    button.textContent = queue.paused ? 'Resume' : 'Pause'
    button.setAttribute('aria-label', `${button.textContent} ${queue.name}`)
    button.dataset.paused = queue.paused
    if (row.parentNode !== body) body.append(row)
  }
  const paused = queues.filter((queue) => queue.paused).length
  told.textContent = queues.length === 0 ? 'No queue was used yet.' : paused === 0 ? '' : `${paused} of ${queues.length} paused.`
}

async function look() {
  const number = ++newest
  try {
    const { items } = await ask('/v1/queues', 'GET')
    if (number === newest) show(items)
  } catch (error) {
    if (number === newest) told.textContent = `The queues cannot be looked at: ${error.message}`
  }
}

async function toggle(name, button) {
  const what = button.dataset.paused === 'true' ? 'resume' : 'pause'
  button.disabled = true
  try {
    await ask(`/v1/queues/${encodeURIComponent(name)}/${what}`, 'POST')
    await look()
  } catch (error) {
    newest++
    told.textContent = `${name}: ${error.message}`
  } finally {
    button.disabled = false
  }
}

async function follow() {
  if (!document.hidden) await look()
  setTimeout(follow, EVERY_MS)
}

document.addEventListener('visibilitychange', () => { if (!document.hidden) look() })
follow()
