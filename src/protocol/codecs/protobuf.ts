import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { BAD_KEY, type Codec, FORBIDDEN_KEY, MAX_DEPTH, TOO_DEEP } from './codec.ts'

/**
 * The fields of docs/push.proto. They are few and will stay: written by hand, they need neither generated code nor the
 * part of the library that interprets descriptors.
 */
const MESSAGE = { type: 1, payload: 2, topic: 3, seq: 4, id: 5, from: 6, ack: 7, refNumber: 8, refText: 9 } as const
const USER = 1
const VALUE = { null: 1, bool: 2, integer: 3, double: 4, string: 5, bytes: 6, list: 7, map: 8 } as const
const ITEM = 1
const ENTRY = 1
const KEY = 1
const ENTRY_VALUE = 2

const { Varint, Bit64, LengthDelimited } = WireType

interface Written {
  type: string
  payload?: unknown
  topic?: string
  seq?: number
  id?: string
  from?: { user: string | null }
  ack?: string
  ref?: number | string
}

const KEYS = new Set(['type', 'payload', 'topic', 'seq', 'id', 'from', 'ack', 'ref'])

function encodeMessage(message: object): Uint8Array<ArrayBuffer> {
  const { type, payload, topic, seq, id, from, ack, ref } = message as Written
  const unknown = Object.entries(message).find(([key, value]) => !KEYS.has(key) && value !== undefined)
  if (unknown) throw new Error(`push.proto has no field "${unknown[0]}"`)
  const writer = new BinaryWriter()
  writer.tag(MESSAGE.type, LengthDelimited).string(type)
  if (payload !== undefined) writeValue(writer, MESSAGE.payload, payload, 2)
  writeText(writer, MESSAGE.topic, topic)
  if (seq !== undefined) writer.tag(MESSAGE.seq, Varint).uint64(seq)
  writeText(writer, MESSAGE.id, id)
  if (from !== undefined) {
    writer.tag(MESSAGE.from, LengthDelimited).fork()
    writeText(writer, USER, from.user ?? undefined)
    writer.join()
  }
  writeText(writer, MESSAGE.ack, ack)
  if (typeof ref === 'number') writer.tag(MESSAGE.refNumber, Varint).sint64(ref)
  else writeText(writer, MESSAGE.refText, ref)
  return writer.finish()
}

function writeText(writer: BinaryWriter, field: number, text: string | undefined): void {
  if (text !== undefined) writer.tag(field, LengthDelimited).string(text)
}

function writeValue(writer: BinaryWriter, field: number, value: unknown, depth: number): void {
  writer.tag(field, LengthDelimited).fork()
  writeKind(writer, value, depth)
  writer.join()
}

function writeKind(writer: BinaryWriter, value: unknown, depth: number): void {
  if (typeof value === 'string') writer.tag(VALUE.string, LengthDelimited).string(value)
  else if (typeof value === 'number') writeNumber(writer, value)
  else if (typeof value === 'boolean') writer.tag(VALUE.bool, Varint).bool(value)
  else if (typeof value === 'object' && value !== null) writeObject(writer, value, depth)
  else if (value === null || value === undefined) writer.tag(VALUE.null, Varint).uint32(0)
  else throw new Error(`it has a ${typeof value}, which no message can have`)
}

function writeNumber(writer: BinaryWriter, value: number): void {
  if (Number.isSafeInteger(value)) writer.tag(VALUE.integer, Varint).sint64(value)
  // JSON may have 1e400. Whoever reads it here would refuse the message, and nobody would know that it was lost.
  else writer.tag(VALUE.double, Bit64).double(finite(value))
}

function writeObject(writer: BinaryWriter, value: object, depth: number): void {
  if (value instanceof Uint8Array) return void writer.tag(VALUE.bytes, LengthDelimited).bytes(value)
  if (depth > MAX_DEPTH) throw new Error(TOO_DEEP)
  const { toJSON } = value as { toJSON?: () => unknown }
  // A Date, for example, says itself how it is written. Counted, because what it says may do so as well.
  if (typeof toJSON === 'function') return writeKind(writer, toJSON.call(value), depth + 1)
  if (Array.isArray(value)) {
    writer.tag(VALUE.list, LengthDelimited).fork()
    for (const item of value) writeValue(writer, ITEM, item, depth + 1)
    return void writer.join()
  }
  writer.tag(VALUE.map, LengthDelimited).fork()
  for (const [key, item] of Object.entries(value)) {
    if (item === undefined) continue
    writer.tag(ENTRY, LengthDelimited).fork()
    writer.tag(KEY, LengthDelimited).string(key)
    writeValue(writer, ENTRY_VALUE, item, depth + 1)
    writer.join()
  }
  writer.join()
}

const LONGER = 'a field is longer than what it is part of'

/** Goes through the fields up to `end`. `read` takes the value of one, or returns false: then it is skipped. */
function readFields(reader: BinaryReader, end: number, read: (field: number, wire: number) => boolean): void {
  while (reader.pos < end) {
    const [field, wire] = reader.tag()
    // Later versions may have more fields.
    if (!read(field, wire)) reader.skip(wire, field)
    if (reader.pos > end) throw new Error(LONGER)
  }
}

/** Where the part that begins here ends. */
function endOf(reader: BinaryReader, wire: number, outer: number): number {
  const length = expect(reader, wire, LengthDelimited).uint32()
  const end = reader.pos + length
  if (end > outer) throw new Error(LONGER)
  return end
}

function expect(reader: BinaryReader, wire: number, wanted: number): BinaryReader {
  if (wire !== wanted) throw new Error(`a field has the wire type ${wire} in the place of ${wanted}`)
  return reader
}

function textIn(reader: BinaryReader, wire: number): string {
  return expect(reader, wire, LengthDelimited).string(true)
}

/** `integer`: bigint or, where there is none, text. */
function safe(integer: bigint | string): number {
  const number = Number(integer)
  if (!Number.isSafeInteger(number)) throw new Error('it has an integer beyond 2^53: write it as text')
  return number
}

function decodeMessage(bytes: Uint8Array): Record<string, unknown> {
  const reader = new BinaryReader(bytes)
  const end = bytes.length
  const message: Record<string, unknown> = {}
  readFields(reader, end, (field, wire) => {
    if (field === MESSAGE.type) message.type = textIn(reader, wire)
    else if (field === MESSAGE.payload) message.payload = readValue(reader, endOf(reader, wire, end), 2)
    else if (field === MESSAGE.topic) message.topic = textIn(reader, wire)
    else if (field === MESSAGE.seq) message.seq = safe(expect(reader, wire, Varint).uint64())
    else if (field === MESSAGE.id) message.id = textIn(reader, wire)
    else if (field === MESSAGE.from) message.from = readFrom(reader, endOf(reader, wire, end))
    else if (field === MESSAGE.ack) message.ack = textIn(reader, wire)
    else if (field === MESSAGE.refNumber) message.ref = safe(expect(reader, wire, Varint).sint64())
    else if (field === MESSAGE.refText) message.ref = textIn(reader, wire)
    else {
      // Clients ignore keys that they do not know, and nodes refuse them.
      message[`field ${field}`] = null
      return false
    }
    return true
  })
  return message
}

function readFrom(reader: BinaryReader, end: number): { user: string | null } {
  const from: { user: string | null } = { user: null }
  readFields(reader, end, (field, wire) => {
    if (field !== USER) return false
    from.user = textIn(reader, wire)
    return true
  })
  return from
}

/** A value without a kind, or of one that this version does not know, is null. */
function readValue(reader: BinaryReader, end: number, depth: number): unknown {
  let value: unknown = null
  readFields(reader, end, (field, wire) => {
    if (field === VALUE.null) value = nullOf(expect(reader, wire, Varint).uint32())
    else if (field === VALUE.bool) value = expect(reader, wire, Varint).bool()
    else if (field === VALUE.integer) value = safe(expect(reader, wire, Varint).sint64())
    else if (field === VALUE.double) value = finite(expect(reader, wire, Bit64).double())
    else if (field === VALUE.string) value = textIn(reader, wire)
    else if (field === VALUE.bytes) value = expect(reader, wire, LengthDelimited).bytes()
    else if (field === VALUE.list) value = readList(reader, endOf(reader, wire, end), depth)
    else if (field === VALUE.map) value = readMap(reader, endOf(reader, wire, end), depth)
    else return false
    return true
  })
  return value
}

/** Whatever number the enum has by then. */
function nullOf(_number: number): null {
  return null
}

function finite(number: number): number {
  if (!Number.isFinite(number)) throw new Error('it has a number that is not finite')
  return number
}

function readList(reader: BinaryReader, end: number, depth: number): unknown[] {
  if (depth > MAX_DEPTH) throw new Error(TOO_DEEP)
  const list: unknown[] = []
  readFields(reader, end, (field, wire) => {
    if (field !== ITEM) return false
    list.push(readValue(reader, endOf(reader, wire, end), depth + 1))
    return true
  })
  return list
}

function readMap(reader: BinaryReader, end: number, depth: number): Record<string, unknown> {
  if (depth > MAX_DEPTH) throw new Error(TOO_DEEP)
  const map: Record<string, unknown> = {}
  readFields(reader, end, (field, wire) => {
    if (field !== ENTRY) return false
    const [key, value] = readEntry(reader, endOf(reader, wire, end), depth)
    if (key === FORBIDDEN_KEY) throw new Error(BAD_KEY)
    map[key] = value
    return true
  })
  return map
}

function readEntry(reader: BinaryReader, end: number, depth: number): [key: string, value: unknown] {
  const entry: [string, unknown] = ['', null]
  readFields(reader, end, (field, wire) => {
    if (field === KEY) entry[0] = textIn(reader, wire)
    else if (field === ENTRY_VALUE) entry[1] = readValue(reader, endOf(reader, wire, end), depth + 1)
    else return false
    return true
  })
  return entry
}

/** Protocol Buffers, as docs/push.proto says. */
export const protobuf: Codec = { name: 'protobuf', protocol: 'push.protobuf', encodeMessage, decodeMessage }
