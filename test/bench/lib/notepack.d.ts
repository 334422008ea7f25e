declare module 'notepack.io' {
  const notepack: { encode(value: unknown): Buffer }
  export default notepack
}
