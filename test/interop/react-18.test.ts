/** The tests of react.test.ts once more, with the oldest React that the package takes. */
process.env.REACT_VERSION = '18'
await import('./react.test.ts')
