import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Type } from 'typebox'
import { compilePayloadCheck, SchemaTable } from '../../src/publish/schemas.ts'

const Order = Type.Object({
  id: Type.String({ minLength: 1 }),
  lines: Type.Optional(Type.Array(Type.Object({ n: Type.Integer() }))),
})

test('a payload that matches passes, one that does not is answered with its path', () => {
  const check = compilePayloadCheck('here', Order)
  assert.equal(check({ id: 'a', lines: [{ n: 1 }] }), undefined)
  assert.equal(check({ id: '' }), 'payload.id must not have fewer than 1 characters')
  assert.equal(check({ id: 'a', lines: [{ n: 1 }, { n: 1.5 }] }), 'payload.lines.1.n must be integer')
  assert.equal(check({}), 'payload must have required properties id')
  assert.equal(check(7), 'payload must be object')
  assert.equal(check(null), 'payload must be object')
})

test('plain JSON schema is as good as TypeBox', () => {
  const schema = {
    type: 'object',
    properties: { n: { type: 'number', maximum: 3 } },
    required: ['n'],
    additionalProperties: false,
  }
  const check = compilePayloadCheck('here', schema as never)
  assert.equal(check({ n: 3 }), undefined)
  assert.equal(check({ n: 4 }), 'payload.n must be <= 3')
  assert.notEqual(check({ n: 3, more: 1 }), undefined)
})

test('a table checks the types it knows and lets others pass', () => {
  const table = new SchemaTable({ 'order.created': Order, flag: Type.Boolean(), empty: Type.Object({}) })
  assert.equal(table.problem('order.created', { id: 'a' }), undefined)
  assert.equal(table.problem('order.created', {}), 'type "order.created": payload must have required properties id')
  assert.equal(table.problem('other', 7), undefined)
  assert.equal(table.problem('constructor', 7), undefined)
  assert.equal(table.problem('__proto__', 7), undefined)
  assert.equal(table.problem('flag', false), undefined)
})

test('a payload that was left out is {}, null is null', () => {
  const table = new SchemaTable({ empty: Type.Object({}), order: Order, nothing: Type.Null() })
  assert.equal(table.problem('empty', undefined), undefined)
  assert.equal(table.problem('order', undefined), 'type "order": payload must have required properties id')
  assert.equal(table.problem('nothing', null), undefined)
  assert.equal(table.problem('nothing', undefined), 'type "nothing": payload must be null')
})

test('a schema that is none is refused when the table is made, by its name', () => {
  const message = /^fastify-push-bridge: .*schemas\["a"\]/
  for (const schema of [{ type: 'string', pattern: '[' }, null, 7, 'string'] as never[]) {
    assert.throws(() => new SchemaTable({ a: schema }), { code: 'PUSH_ERR_OPTIONS', message }, JSON.stringify(schema))
  }
})
