// The list of methods that every language has, core/tests/contract/methods.json, against what this package offers.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { kappa, inMemory } = require('./support.cjs')

const contract = process.env.KAPPA_CONTRACT ?? path.join(__dirname, '../../core/tests/contract')
const { groups, errors } = JSON.parse(fs.readFileSync(path.join(contract, 'methods.json'), 'utf8'))
const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())

/** Each method of the list as [its name there, the owner here, its name here]. */
function * listed() {
  for (const { also, methods, owners } of Object.values(groups)) {
    for (const [name, { node: here = camel(name) }] of Object.entries({ ...(also && groups[also].methods), ...methods })) {
      if (here.not !== undefined) {
        assert.ok(here.not, `${name} is missing without a reason`)
        continue
      }
      for (const cell of [here].flat()) {
        const [, owner = owners.node, own] = /^(?:(\w+)\.)?(\w+)(?:\(\w+\))?$/.exec(cell)
        yield [name, owner, own]
      }
    }
  }
}

/** The names of `found`, also those that its class has for itself; not the ones that every object has. */
function offered(found) {
  const names = new Set(Object.keys(found))
  for (let made = Object.getPrototypeOf(found); made !== Object.prototype; made = Object.getPrototypeOf(made)) {
    for (const name of Object.getOwnPropertyNames(made)) names.add(name)
    for (const name of Object.getOwnPropertyNames(made.constructor)) names.add(name)
  }
  for (const name of ['constructor', 'length', 'name', 'prototype']) if (!(name in found) || name === 'constructor') names.delete(name)
  return names
}

// A method that only one language has is found by its users, long after.
test('every method is in the list', async (t) => {
  const db = await inMemory(t)
  const changes = db.changes()
  t.after(() => changes.close())
  const made = {
    Kappa: db,
    Collection: db.users,
    Products: db.products,
    List: db.users.list(),
    Batch: db.batch(),
    Tasks: db.tasks,
    Changes: changes,
    Histogram: await kappa.histogram(1, { range: [0, 1] }),
  }
  const isClass = (value) => Object.getOwnPropertyDescriptor(value, 'prototype')?.writable === false
  const functions = Object.keys(kappa).filter((name) => typeof kappa[name] === 'function' && !isClass(kappa[name]))
  const has = { module: new Set(functions) }
  for (const [owner, found] of Object.entries(made)) has[owner] = offered(found)

  const says = Object.fromEntries(Object.keys(has).map((owner) => [owner, new Set()]))
  for (const [name, owner, own] of listed()) {
    assert.ok(has[owner].has(own), `${name}: ${owner} has no ${own}`)
    says[owner].add(own)
  }
  // What a collection has, products have.
  for (const name of says.Collection) says.Products.add(name)
  for (const [owner, names] of Object.entries(has)) {
    const unlisted = [...names].filter((name) => !says[owner].has(name))
    assert.deepEqual(unlisted, [], `${owner} has what is not in methods.json`)
  }
})

test('every kind of error is in the list', () => {
  const classes = Object.keys(kappa).filter((name) => kappa[name].prototype instanceof kappa.KappaError)
  const expected = Object.keys(errors).map((code) => camel(`_${code}`) + 'Error')
  assert.deepEqual(classes.sort(), expected.sort())
})
