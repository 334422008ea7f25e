/** For the option `codec` of a client. Needs the package @bufbuild/protobuf. */
export { protobuf } from '../protocol/codecs/protobuf.ts'
