/** For the option `codec` of a client. Needs the package @msgpack/msgpack. */
export { msgpack } from '../protocol/codecs/msgpack.ts'
