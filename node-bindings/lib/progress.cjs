// A bar for somebody who waits at a terminal.
'use strict'

// Taken here, so that a bar is also drawn where a test has put timers of its own in place of these.
const { setInterval, clearInterval } = require('node:timers')

/** How often it is drawn anew. */
const STEP = 200
const CELLS = 20

/**
 * The answer of `ended`; until it comes, how far the task is that `standing` gives is drawn on `terminal`. Nothing at all
 * where that is none.
 */
async function watched(ended, standing, terminal = process.stderr) {
  if (!terminal.isTTY) return ended
  const begun = performance.now()
  let asking = false
  let over = false
  let drawn = false
  const draw = async () => {
    // Where the database answers slowly, one question at a time is enough.
    if (asking) return
    asking = true
    try {
      const task = await standing()
      if (task === null || over) return
      drawn = true
      terminal.write(`\r\x1b[2K${line(task, performance.now() - begun, terminal.columns)}`)
    } catch {
      // What is wrong is told by the answer that is waited for.
    } finally {
      asking = false
    }
  }
  const timer = setInterval(draw, STEP)
  try {
    return await ended
  } finally {
    over = true
    clearInterval(timer)
    // What the program has on its line stays where nothing was drawn over it.
    if (drawn) terminal.write('\r\x1b[2K')
  }
}

/** One line that fits into `columns`. Names of queues and states have no characters that a terminal would act on. */
function line({ queue, id, state, progress }, elapsed, columns) {
  const done = Math.floor((progress ?? 0) * CELLS)
  const seconds = Math.floor(elapsed / 1000)
  const time = `${String(Math.floor(seconds / 60)).padStart(2, '0')}:${String(seconds % 60).padStart(2, '0')}`
  const percent = String(Math.floor((progress ?? 0) * 100)).padStart(3)
  const text = `${queue} ${id} ${state}: ${percent}%|${'#'.repeat(done)}${' '.repeat(CELLS - done)}| ${time}`
  return text.slice(0, (columns || 80) - 1)
}

module.exports = { watched, line }
