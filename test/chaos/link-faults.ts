import { setTimeout as sleep } from 'node:timers/promises'
import type { FaultProxy } from './proxy.ts'

export async function cutFor(link: FaultProxy, duration: number): Promise<void> {
  link.isRefusing = true
  link.cut()
  await sleep(duration / 2)
  link.isRefusing = false
}

export async function holdFor(link: FaultProxy, duration: number): Promise<void> {
  link.isHeld = true
  await sleep(duration)
  link.isHeld = false
}

export async function delayFor(link: FaultProxy, duration: number): Promise<void> {
  link.delay = 200
  await sleep(duration)
  link.delay = 0
}

export async function throttleFor(link: FaultProxy, duration: number, rate: number): Promise<void> {
  link.rate = rate
  await sleep(duration)
  link.rate = undefined
  link.pump()
}
