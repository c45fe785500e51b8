// The Node side of `payloads.py`: works off what Python enqueues, enqueues the same for Python, and stays until its
// input ends.
'use strict'

const { inspect, isDeepStrictEqual } = require('node:util')
const { Discard, Kappa } = require('kappa-core')

const [, , directory, mode] = process.argv
const WITHIN = 60_000

/** What either side sends, as the other one reads it. `payloads.py` has the same by the same names. */
const PAYLOADS = {
  'letters': 'Größe, ÄÖÜß, Łódź, 東京, e\u0301',
  'emoji': '😀 👨‍👩‍👧 🇩🇪',
  'a NUL': 'before\u0000behind',
  'quotes and backslashes': '"double" \'single\' \\ \\\\ \\" \\u0041 / </b>',
  'control characters': '\u0001\b\t\n\f\r\u001f\u007f\u2028\u2029',
  'an empty text': '',
  'digits in a text': '9007199254740993',
  'nothing to count': 0,
  'a negative number': -7,
  'the largest safe number': 9007199254740991,
  'the first unsafe number': 9007199254740992n,
  'one that a float would round': 9007199254740993n,
  'a negative one that a float would round': -9007199254740993n,
  'the least of 64 bits': -9223372036854775808n,
  'beyond 64 bits': 18446744073709551616n,
  'forty digits': -1234567890123456789012345678901234567891n,
  'a tenth': 0.1,
  'a small float': 1e-7,
  'a large float': 1e21,
  'a negative float': -0.5,
  'the largest float': 1.7976931348623157e308,
  'the smallest float': 5e-324,
  'yes': true,
  'no': false,
  'nothing': null,
  'an empty list': [],
  'an empty object': {},
  'nested': {
    list: [1, [2, [3, { deep: [null, true, 'ä', 9007199254740993n, 0.1, {}, []] }]]],
    object: { a: { b: { c: -1 } } },
  },
  'names': {
    camelCase: 1,
    snake_case: 2,
    due_at: { max_attempts: 3, maxAttempts: 4 },
    'Größe': 5,
    '東京': 6,
    '😀': 7,
    'a "b" \\ c': 8,
    '': 9,
  },
  // Node once took such a text for a number.
  'a text like a mark': { text: '\u{F8FF}whole:1', number: 9007199254740993n },
  'a date of Node': '2024-02-29T12:30:00.123Z',
  'a date of Python': '2024-02-29T12:30:00.123456+02:00',
}

/** What this side gives where that is not what the other one reads. */
const GIVEN = { 'a date of Node': new Date(Date.UTC(2024, 1, 29, 12, 30, 0, 123)) }

function same(found, name, where) {
  if (!Object.hasOwn(PAYLOADS, name)) throw new Discard(`Node does not know the payload ${name}`)
  if (!isDeepStrictEqual(found, PAYLOADS[name])) {
    const [was, is] = [PAYLOADS[name], found].map((value) => inspect(value, { depth: null }))
    throw new Discard(`${where} of ${name}: ${is}, and not ${was}`)
  }
}

async function main() {
  const left = new Promise((resolve) => process.stdin.once('end', resolve).resume())
  const db = await Kappa.open(directory, { mode, deadline: WITHIN })
  const worker = db.worker('for-node', ({ params, description }) => {
    same(params, description, 'what Node is to run')
    return params
  }, { concurrency: 4, name: 'node' })
  await Promise.all(Object.entries(PAYLOADS).map(async ([name, payload]) => {
    const signal = AbortSignal.timeout(WITHIN)
    const given = Object.hasOwn(GIVEN, name) ? GIVEN[name] : payload
    const { id } = await db.tasks.enqueue('for-python', given, { description: name, attempts: 1, signal })
    const task = await db.tasks.wait(id, { signal })
    if (task.state !== 'completed' || task.worker !== 'python') throw new Error(`${name}: ${inspect(task)}`)
    same(task.params, name, 'what Node finds in its task')
    same(task.result, name, 'what Node gets back')
  }))
  console.log('all came back')
  await left
  await worker.stop()
  await db.close()
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
