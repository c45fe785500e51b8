// Types of `import ... from 'kappa-core'`.
export * from './index.js'
import * as kappa from './index.js'
export default kappa
