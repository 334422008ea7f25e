/** `String.fromCharCode` takes no more arguments than the stack has room for. */
const CHUNK = 8192

/** As JSON.stringify does, with bytes in the form that the protocol has for them in JSON: `{"$binary":"…"}`. */
export function stringify(value: unknown): string {
  return JSON.stringify(value, function (this: Record<string, unknown>, key, item) {
    // What stands there: a Buffer of Node would have written itself as a list by now.
    const raw = this[key]
    return ArrayBuffer.isView(raw) ? { $binary: base64(raw) } : item
  })
}

function base64({ buffer, byteOffset, byteLength }: ArrayBufferView): string {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength)
  let characters = ''
  for (let at = 0; at < bytes.length; at += CHUNK) {
    characters += String.fromCharCode(...bytes.subarray(at, at + CHUNK))
  }
  return btoa(characters)
}
