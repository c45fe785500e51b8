// The processor, memory and system under this process.
'use strict'

const { native, callNow } = require('./port.cjs')
const { camel } = require('./text.cjs')

/** Describes the machine as it is now; null where something cannot be found out. */
function cpuInfo() {
  return callNow(() => camel(JSON.parse(native.cpuInfo())))
}

module.exports = { cpuInfo }
