import assert from 'node:assert/strict'
import { isIPv6 } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { Addresses, addressOf } from '../../src/routes/addresses.ts'
import { isNear, networkOf } from '../../src/routes/networks.ts'

test('an IPv4 address stands for itself, an IPv6 address for its /64, and a mapped one is IPv4', () => {
  for (const [text, network] of [
    ['192.0.2.7', '192.0.2.7'],
    ['192.0.2.7:51000', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['::FFFF:c000:207', '192.0.2.7'],
    ['[::ffff:192.0.2.7]:51000', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0DB8:1:2::', '2001:db8:1:2::/64'],
    ['2001:db8::6', '2001:db8:0:0::/64'],
    ['[2001:db8:1:2::6]:443', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::192.0.2.7', '2001:db8:1:2::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['unknown', 'unknown'],
    ['_hidden', 'unknown'],
    ['', 'unknown'],
    ['192.0.2.7.', 'unknown'],
    ['1.2.3.4:x', 'unknown'],
    [`${'9'.repeat(20_000)}`, 'unknown'],
  ] as const) {
    assert.equal(networkOf(text), network, text.slice(0, 60))
  }
})

test('property: all of a /64 is one network, and another /64 another', () => {
  const group = fc.integer({ min: 1, max: 0xffff }).map(n => n.toString(16))
  const half = fc.tuple(group, group, group, group).map(groups => groups.join(':'))
  const property = fc.property(half, half, half, half, (a, b, c, d) => {
    assert.ok(isIPv6(`${a}:${b}`))
    assert.equal(networkOf(`${a}:${b}`), networkOf(`${a}:${c}`))
    assert.equal(networkOf(`${a}:${b}`) === networkOf(`${d}:${b}`), a === d)
  })
  fc.assert(property)
})

test('property: whatever a proxy writes is a network, and never a long one', () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.ipV4(), fc.ipV6()), text => networkOf(text).length < 30))
})

test('near is what nobody on the internet can have', () => {
  const near = ['127.0.0.1', '10.1.2.3', '172.31.0.1', '192.168.1.1', '169.254.1.1', '100.64.0.1', '::1', 'fd00::1']
  for (const address of [...near, 'fe80::1%eth0', '::ffff:10.0.0.1'])
    assert.equal(isNear(networkOf(address)), true, address)
  const far = ['192.0.2.1', '172.32.0.1', '100.128.0.1', '11.0.0.1', '2001:db8::1', '::ffff:192.0.2.1', 'nonsense']
  for (const address of far) assert.equal(isNear(networkOf(address)), false, address)
})

test('a peer that is near is a proxy and has no limit; what a proxy names has one, and so has a far peer', () => {
  const request = (ip: string | undefined, ips?: string[]) => addressOf({ ip, ips } as Parameters<typeof addressOf>[0])
  assert.equal(request('127.0.0.1'), undefined)
  assert.equal(request(undefined), undefined)
  assert.equal(request('192.0.2.1'), '192.0.2.1')
  assert.equal(request('127.0.0.1', ['127.0.0.1']), undefined)
  assert.equal(request('192.0.2.1', ['127.0.0.1', '192.0.2.1']), '192.0.2.1')
  // Somebody on the network of the proxy.
  assert.equal(request('10.0.0.9', ['127.0.0.1', '10.0.0.9']), '10.0.0.9')
  assert.equal(request('192.0.2.9', ['192.0.2.9']), '192.0.2.9')
})

test('addresses are forgotten, those that are connected are not, and there are never too many', t => {
  let now = 0
  t.mock.method(performance, 'now', () => now)
  const addresses = new Addresses({ addressConnections: 1, addressUpgrades: 1 })
  const held = addresses.hold('held')
  for (let i = 0; i < 100_000; i++) assert.equal(addresses.enter(`a${i}`), undefined)
  assert.ok(addresses.size <= 15_001, `${addresses.size} addresses`)
  assert.equal(addresses.fullness('held')?.code, 'PUSH_ERR_ADDRESS_CONNECTIONS')
  held.connections--
  assert.equal(addresses.fullness('held'), undefined)
  now = 3000
  for (let i = 0; i < 5000; i++) addresses.enter(`b${i}`)
  assert.ok(addresses.size <= 5000, `${addresses.size} addresses`)
})

test('an address that was forgotten while its upgrade was on the way is counted all the same', () => {
  const addresses = new Addresses({ addressConnections: 2, addressUpgrades: 1 })
  addresses.enter('one')
  for (let i = 0; i < 30_000; i++) addresses.enter(`a${i}`)
  const [first, second] = [addresses.hold('one'), addresses.hold('one')]
  assert.equal(first, second)
  assert.equal(addresses.fullness('one')?.statusCode, 429)
})
