/** A stamp has sixteen digits, so that every message of a topic has the same length and the digits the same place. */
export const STAMP_BASE = 1e15
export const STAMP_DIGITS = 16
/** Of these, so many at the end tell the messages of a burst apart: it has fewer than a hundred million. */
export const NUMBER_DIGITS = 8
export const MESSAGE_BYTES = 128

/** Microseconds of CLOCK_MONOTONIC, which is one clock for all processes of a machine. */
export function micros(): number {
  return Number(process.hrtime.bigint() / 1000n)
}
