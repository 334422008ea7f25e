const STEPS = 1_000_000

/** Computes, as a worker that renders a report would: each round is about a millisecond of CPU. */
export default ({ payload }) => {
  let sum = 0
  for (let round = 0; round < payload.rounds; round++) for (let n = 0; n < STEPS; n++) sum += Math.sqrt(n ^ round)
  return { sum }
}
