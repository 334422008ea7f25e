import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type MetricsSettings, readMetrics } from '../../../src/node/monitoring/environment.ts'

test('metrics of serve: nothing is shown because nothing was set', () => {
  assert.equal(readMetrics({}, {}), undefined)
  assert.equal(readMetrics({ metrics: '' }, { METRICS: '', METRICS_LISTEN: '', METRICS_KEY: '' }), undefined)
})

test('metrics of serve: a path, an address of its own, a key; flags win', () => {
  const key = 'a-key-of-sixteen'
  assert.deepEqual(readMetrics({}, { METRICS: '/metrics' }), { path: '/metrics', listen: undefined, key: undefined })
  const flags = { metrics: '/m', 'metrics-listen': '10.0.0.5:9464' }
  assert.deepEqual(readMetrics(flags, { METRICS: '/x', METRICS_LISTEN: '9999', METRICS_KEY: key }), {
    path: '/m',
    listen: { host: '10.0.0.5', port: 9464 },
    key,
  } satisfies MetricsSettings)
  const listen = (text: string) => readMetrics({}, { METRICS: '/metrics', METRICS_LISTEN: text })?.listen
  assert.deepEqual(listen('[::1]:9464'), { host: '::1', port: 9464 })
  assert.deepEqual(listen('monitor.internal:0'), { host: 'monitor.internal', port: 0 })
  // Never every interface because somebody named only a port.
  assert.deepEqual(listen('9464'), { host: '127.0.0.1', port: 9464 })
})

test('metrics of serve: what does not go together, or can be guessed', () => {
  const wrong: [Record<string, string>, RegExp][] = [
    [{ METRICS_LISTEN: '9464' }, /METRICS_LISTEN \(--metrics-listen\) is set, but not METRICS/],
    [{ METRICS_KEY: 'a-key-of-sixteen' }, /METRICS_KEY is set, but not METRICS/],
    [{ METRICS: 'metrics' }, /METRICS \(--metrics\) is "metrics": it must be a path/],
    [{ METRICS: '1' }, /it must be a path/],
    [{ METRICS: '/*' }, /it must be a path/],
    [{ METRICS: '/m', METRICS_KEY: 'short' }, /METRICS_KEY has 5 characters and can be guessed/],
    ...['host', ':9464', '1.2.3.4:', '1.2.3.4:70000', '[::1]', 'a b:1', '::1:80'].map(
      text => [{ METRICS: '/m', METRICS_LISTEN: text }, /METRICS_LISTEN .* must be HOST:PORT/] as [typeof env, RegExp],
    ),
  ]
  const env: Record<string, string> = {}
  for (const [set, message] of wrong) assert.throws(() => readMetrics({}, set), { message }, JSON.stringify(set))
})
