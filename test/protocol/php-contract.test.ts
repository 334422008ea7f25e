import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { sign } from '../../src/node/events/signature.ts'
import { closeProblem, isReservedType, shouldReconnect, typeProblem } from '../../src/protocol/messages.ts'
import { isCovered, positionOf } from '../../src/protocol/position.ts'
import { rightProblem } from '../../src/protocol/rights.ts'
import { isTopic, patternProblem } from '../../src/protocol/topic.ts'

interface Case<T> {
  value: T
  ok: boolean
}

/** What is good and what is not, as the package in php/ has to see it as well: its tests read the same list. */
const cases = JSON.parse(readFileSync(new URL('../../php/tests/fixtures/contract.json', import.meta.url), 'utf8')) as {
  topics: Case<string>[]
  patterns: Case<string>[]
  rights: Case<unknown>[]
  types: Case<string>[]
  reserved: Case<string>[]
  closes: { code: number; reason: string; ok: boolean }[]
  reconnect: Case<number>[]
  covered: { id: string; by: string; ok: boolean }[]
  signature: { body: string; time: number; secrets: string[]; header: string }
}

function assertAll<T extends { ok: boolean }>(list: readonly T[], isGood: (it: T) => boolean): void {
  assert.ok(list.some(({ ok }) => ok) && list.some(({ ok }) => !ok), 'the list has cases of both kinds')
  for (const it of list) assert.equal(isGood(it), it.ok, JSON.stringify(it))
}

test('the cases that PHP tests too: topics, patterns, rights, types, close codes, positions', () => {
  assertAll(cases.topics, ({ value }) => isTopic(value))
  assertAll(cases.patterns, ({ value }) => patternProblem(value) === undefined)
  assertAll(cases.rights, ({ value }) => rightProblem(value) === undefined)
  assertAll(cases.types, ({ value }) => typeProblem(value) === undefined)
  assertAll(cases.reserved, ({ value }) => isReservedType(value))
  assertAll(cases.closes, ({ code, reason }) => closeProblem(code, reason) === undefined)
  assertAll(cases.reconnect, ({ value }) => shouldReconnect(value))
  assertAll(cases.covered, ({ id, by }) => isCovered(positionOf(id)!, positionOf(by)!))
})

test('the signature that PHP verifies is the one that a node writes', () => {
  const { body, time, secrets, header } = cases.signature
  assert.equal(sign(secrets, body, time * 1000), header)
})
