import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import {
  create,
  createFileRegistry,
  type DescMessage,
  fromBinary,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf'
import {
  FieldDescriptorProto_Type as FieldType,
  FileDescriptorSetSchema,
  FieldDescriptorProto_Label as Label,
} from '@bufbuild/protobuf/wkt'
import { protobuf } from '../../../src/protocol/codecs/protobuf.ts'

/**
 * The codec is written by hand, docs/push.proto is what others build from. Here the library reads and writes what the file
 * says, by descriptors that are made of its text, and both have to agree.
 */
const SOURCE = readFileSync(new URL('../../../docs/push.proto', import.meta.url), 'utf8').replaceAll(/\/\/.*$/gm, '')

const SCALARS: Record<string, FieldType> = {
  string: FieldType.STRING,
  bytes: FieldType.BYTES,
  bool: FieldType.BOOL,
  double: FieldType.DOUBLE,
  sint64: FieldType.SINT64,
  uint64: FieldType.UINT64,
}

function messageOf([, name, body]: RegExpMatchArray) {
  const oneofs: string[] = []
  const nested: object[] = []
  const fields: object[] = []
  const inOneof = new Map<number, string>()
  for (const [, oneof, inner] of body!.matchAll(/oneof (\w+) \{([\s\S]*?)\n {2}\}/g)) {
    oneofs.push(oneof!)
    for (const [, number] of inner!.matchAll(/= (\d+);/g)) inOneof.set(Number(number), oneof!)
  }
  const isOptional = new Map<number, string>()
  for (const [, field, number] of body!.matchAll(/optional \w+ (\w+) = (\d+);/g))
    isOptional.set(Number(number), `_${field}`)
  // Those of optional fields come last.
  const all = [...oneofs, ...isOptional.values()]
  for (const [, label, type, field, number] of body!.matchAll(
    /^\s+(optional |repeated )?([\w.]+|map<string, Value>) (\w+) = (\d+);/gm,
  )) {
    const isMap = type!.startsWith('map<')
    if (isMap) nested.push(ENTRY(field!))
    const scalar = SCALARS[type!]
    const typeName = isMap
      ? `.push.v1.${name}.${entryName(field!)}`
      : scalar === undefined
        ? `.push.v1.${type}`
        : undefined
    const oneof = inOneof.get(Number(number)) ?? isOptional.get(Number(number))
    fields.push({
      name: field,
      jsonName: field,
      number: Number(number),
      label: isMap || label === 'repeated ' ? Label.REPEATED : Label.OPTIONAL,
      type: scalar ?? (type === 'Null' ? FieldType.ENUM : FieldType.MESSAGE),
      ...(typeName && { typeName }),
      ...(oneof && { oneofIndex: all.indexOf(oneof), ...(label === 'optional ' && { proto3Optional: true }) }),
    })
  }
  return { name, field: fields, nestedType: nested, oneofDecl: all.map(oneof => ({ name: oneof })) }
}

const entryName = (field: string) => `${field[0]!.toUpperCase()}${field.slice(1)}Entry`
const ENTRY = (field: string) => ({
  name: entryName(field),
  options: { mapEntry: true },
  field: [
    { name: 'key', jsonName: 'key', number: 1, label: Label.OPTIONAL, type: FieldType.STRING },
    {
      name: 'value',
      jsonName: 'value',
      number: 2,
      label: Label.OPTIONAL,
      type: FieldType.MESSAGE,
      typeName: '.push.v1.Value',
    },
  ],
})

function schema(): DescMessage {
  const messages = [...SOURCE.matchAll(/^message (\w+) \{\n([\s\S]*?)\n\}/gm)].map(messageOf)
  assert.deepEqual(
    messages.map(({ name }) => name),
    ['Message', 'From', 'Value', 'ValueList', 'ValueMap'],
  )
  const file = {
    name: 'push.proto',
    package: /^package ([\w.]+);/m.exec(SOURCE)![1]!,
    syntax: /^syntax = "(\w+)";/m.exec(SOURCE)![1]!,
    messageType: messages,
    enumType: [{ name: 'Null', value: [{ name: 'NULL_VALUE', number: 0 }] }],
  }
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: [file] as never }))
  return registry.getMessage('push.v1.Message')!
}

const Message = schema()

/** What a value of the generated code means. */
type Kind = { case: string; value: unknown }
function meaning(value: { kind?: Kind } | undefined): unknown {
  const { case: name, value: held } = value?.kind ?? { case: '', value: undefined }
  if (name === 'integerValue') return Number(held)
  if (name === 'listValue') return (held as { values: { kind: Kind }[] }).values.map(meaning)
  if (name === 'mapValue') {
    const { entries } = held as { entries: Record<string, { kind: Kind }> }
    return Object.fromEntries(Object.entries(entries).map(([key, item]) => [key, meaning(item)]))
  }
  return name === 'nullValue' ? null : held
}

const PAYLOAD = {
  no: null,
  yes: true,
  off: false,
  int: -7,
  big: Number.MAX_SAFE_INTEGER,
  half: 0.5,
  text: 'hé',
  is: Uint8Array.of(0, 255),
  list: [1, 'a', [], null],
  map: { inner: {} },
}

test('push.proto: the library reads what the codec writes', () => {
  const whole = {
    type: 'order.created',
    payload: PAYLOAD,
    topic: 'channel:orders',
    seq: 42,
    id: 't1.42.1-0',
    from: { user: '7' },
    ack: 'V1St',
    ref: -3,
  }
  const read = fromBinary(Message, protobuf.encodeMessage(whole)) as MessageShape<DescMessage> & Record<string, unknown>
  assert.deepEqual(meaning(read.payload as never), PAYLOAD)
  assert.deepEqual(
    [read.type, read.topic, read.seq, read.id, (read.from as { user?: string }).user, read.ack, read.ref],
    ['order.created', 'channel:orders', 42n, 't1.42.1-0', '7', 'V1St', { case: 'refNumber', value: -3n }],
  )
  assert.deepEqual(read.$unknown, undefined)
  const short = fromBinary(
    Message,
    protobuf.encodeMessage({ type: 'a', payload: null, from: { user: null }, ref: 'r' }),
  )
  const { from, ref, topic } = short as MessageShape<DescMessage> & Record<string, unknown>
  assert.deepEqual(
    [(from as { user?: string }).user, ref, topic],
    [undefined, { case: 'refText', value: 'r' }, undefined],
  )
})

test('push.proto: the codec reads what the library writes', () => {
  const value = (kind: Kind | object) => ({ kind })
  const message = create(Message, {
    type: 'subscribe',
    payload: value({
      case: 'mapValue',
      value: {
        entries: {
          topic: value({ case: 'stringValue', value: 'channel:a' }),
          last: value({ case: 'integerValue', value: 3n }),
          share: value({ case: 'doubleValue', value: 0.5 }),
          is: value({ case: 'bytesValue', value: Uint8Array.of(1, 2) }),
          all: value({
            case: 'listValue',
            value: { values: [value({ case: 'boolValue', value: true }), value({ case: 'nullValue', value: 0 })] },
          }),
        },
      },
    }),
    ref: { case: 'refNumber', value: 9n },
  } as never)
  const read = protobuf.decodeMessage(toBinary(Message, message)) as { payload: { is: Uint8Array } }
  assert.deepEqual(read, {
    type: 'subscribe',
    payload: { topic: 'channel:a', last: 3, share: 0.5, is: read.payload.is, all: [true, null] },
    ref: 9,
  })
  assert.deepEqual([...read.payload.is], [1, 2])
})

test('push.proto: its fields are those of the codec', () => {
  const numbers = Object.fromEntries(Message.fields.map(({ name, number }) => [name, number]))
  const expected = { type: 1, payload: 2, topic: 3, seq: 4, id: 5, from: 6, ack: 7, ref_number: 8, ref_text: 9 }
  assert.deepEqual(numbers, expected)
})
