import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Lag } from '../../../src/broker/redis/lag.ts'

function watched() {
  const heard: number[] = []
  const told: [boolean, number][] = []
  const lag = new Lag({ heard: sentAt => heard.push(sentAt), told: (...news) => told.push(news) })
  /** Tick `number` is sent at that second and published ten milliseconds later. */
  const publish = (number: number) => lag.published({ number, sentAt: number * 1000, publishedAt: number * 1000 + 10 })
  return { lag, heard, told, publish }
}

test('a node is as far behind as the oldest tick that has not come', () => {
  const { lag, heard, publish } = watched()
  assert.equal(lag.at(500), 0)
  for (const number of [1, 2, 3]) publish(number)
  assert.equal(lag.at(3500), 2490)
  lag.heard(2, 3500)
  assert.equal(lag.at(3500), 490)
  lag.heard(3, 3500)
  assert.equal(lag.at(9000), 0)
  assert.deepEqual(heard, [2000, 3000])
})

test('a tick that comes before Redis has said that it published it makes nobody late', () => {
  const { lag, heard, publish } = watched()
  lag.heard(1, 1005)
  publish(1)
  assert.equal(lag.at(5000), 0)
  assert.deepEqual(heard, [1000])
})

test('what others publish to the node, and ticks of a link that is lost, change nothing', () => {
  const { lag, heard, publish } = watched()
  publish(1)
  for (const junk of [Number.NaN, -1, 0, 0.5]) lag.heard(junk, 2000)
  assert.equal(lag.at(2010), 1000)
  lag.clear()
  assert.equal(lag.at(2010), 0)
  lag.heard(1, 2020)
  assert.deepEqual(heard, [])
})

test('a PING that was answered two seconds after a tick was published shows that it will not come', () => {
  const { lag, publish } = watched()
  publish(1)
  assert.equal(lag.isDeaf(3009), false)
  assert.equal(lag.isDeaf(3010), true)
  lag.heard(1, 3010)
  assert.equal(lag.isDeaf(9000), false)
})

test('a lag of seconds is told once, and when it is over; another not within a minute', () => {
  const { lag, told, publish } = watched()
  const fallBehind = (from: number) => {
    for (let number = from; number < from + 5; number++) publish(number)
    lag.heard(from, from * 1000 + 6010)
    lag.heard(from + 4, from * 1000 + 7000)
  }
  fallBehind(1)
  fallBehind(30)
  assert.deepEqual(told, [
    [true, 3000],
    [false, 6000],
  ])
  fallBehind(90)
  assert.deepEqual(told.slice(2), [
    [true, 3000],
    [false, 6000],
  ])
})
