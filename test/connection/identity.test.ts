import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { ownText } from '../../src/connection/identity.ts'
import { type Member, Registry } from '../../src/connection/registry.ts'
import { checkAuthentication } from '../../src/node/authentication.ts'
import type { Topic } from '../../src/protocol/topic.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const TEXTS = 300
const TEXT_BYTES = 100_000

/** A name of 20 characters, cut out of a long text of its own. */
const cut = (i: number) => `${'x'.repeat(TEXT_BYTES)}${String(i).padStart(20, 'n')}`.slice(TEXT_BYTES)

/** Bytes that `keep` leaves in memory of all these texts. */
function kept(keep: (name: string, i: number) => unknown): number {
  collect()
  const before = process.memoryUsage().heapUsed
  const all = Array.from({ length: TEXTS }, (_, i) => keep(cut(i), i))
  collect()
  const after = process.memoryUsage().heapUsed
  assert.equal(all.length, TEXTS)
  return after - before
}

test('the text is the same, whatever is in it', () => {
  for (const text of ['', 'a', 'user:日本'.repeat(3), '😀'.repeat(20), 'x'.repeat(200)])
    assert.equal(ownText(text), text)
})

test('a name that was cut out of a long text does not keep that in memory', () => {
  const registry = new Registry<Member>()
  const all = TEXTS * TEXT_BYTES
  assert.ok(kept(name => name) > all / 2, 'this test shows nothing: V8 copies what is cut out')
  assert.ok(kept(name => ownText(name)) < all / 10)
  assert.ok(kept(user => checkAuthentication({ user, allow: [`channel:${user}`] }, 'it')) < all / 10)
  const join = (name: string, i: number) => {
    const member: Member = { id: String(i), user: null, subscriptions: undefined, joined: 0 }
    registry.add(member)
    // As in a list of topics in a URL.
    registry.join(member, `${'x'.repeat(TEXT_BYTES)}channel:${name}`.slice(TEXT_BYTES) as Topic)
    return member
  }
  assert.ok(kept(join) < all / 10)
})
