import assert from 'node:assert/strict'
import { test } from 'node:test'
import { streamsIngress } from '../../src/ingress/streams/streams.ts'
import { INGRESS_FLAGS, INGRESS_USAGE } from '../../src/node/ingress-environment.ts'
import { usedSettings } from '../../src/node/serve-check.ts'
import { registerOptions } from '../../src/node/serve-options.ts'
import { readSettings, type ServeSettings } from '../../src/node/serve-settings.ts'

test('the flags of serve are roads, and a wrong one is named', () => {
  const settingsOf = (env: NodeJS.ProcessEnv, ...argv: string[]) =>
    readSettings(['serve', '--redis', 'redis://127.0.0.1', ...argv], env) as ServeSettings
  assert.deepEqual(settingsOf({}).ingress, [])
  const [road] = settingsOf({ INGRESS_STREAMS_TOPICS: 'channel:a, user:*' }).ingress
  assert.deepEqual([road!.name, road!.topics], ['streams', ['channel:a', 'user:*']])
  const [other] = settingsOf({ INGRESS_STREAMS_TOPICS: 'all' }, '--ingress-streams-topics', 'user:1').ingress
  assert.deepEqual(other!.topics, ['user:1'])
  assert.throws(
    () => settingsOf({ INGRESS_STREAMS_TOPICS: 'orders' }),
    /INGRESS_STREAMS_TOPICS .*"orders": it cannot be used/,
  )
  assert.throws(() => readSettings(['serve', '--dev'], { INGRESS_STREAMS_TOPICS: 'all' }), /needs Redis/)
  const file = { server: {}, options: { ingress: [streamsIngress({ topics: ['all'] }), { ...road!, name: 'mine' }] } }
  const settings = readSettings(['serve', '--redis', 'redis://127.0.0.1'], { INGRESS_STREAMS_TOPICS: 'user:1' }, file)
  const { ingress } = registerOptions(settings as ServeSettings, { tickets: true })
  assert.deepEqual(
    ingress!.map(({ name, topics }) => [name, topics[0]]),
    [
      ['mine', 'channel:a'],
      ['streams', 'user:1'],
    ],
  )
})

test('serve --check shows what may be published on, and where that comes from', () => {
  const env = { INGRESS_STREAMS_TOPICS: 'user:1' }
  const settings = readSettings(['serve', '--redis', 'redis://127.0.0.1'], env) as ServeSettings
  const used = usedSettings(settings, registerOptions(settings, { tickets: true }), { flags: {}, env })
  assert.deepEqual(
    used.find(({ setting }) => setting === 'ingress'),
    {
      setting: 'ingress',
      value: '[{"name":"streams","topics":["user:1"]}]',
      from: 'environment',
    },
  )
})

test('every flag has its line in the help', () => {
  for (const flag of Object.keys(INGRESS_FLAGS)) {
    assert.match(INGRESS_USAGE, new RegExp(`${flag.toUpperCase().replaceAll('-', '_')} +--${flag}\\b`))
  }
})
