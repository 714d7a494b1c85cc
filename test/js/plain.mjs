// plain turns what the library hands out into JSON that says all of it, in the
// form that events use: bytes, times and numbers that JSON lacks get a name.
import * as A from "@automerge/automerge"

export const plain = value => {
  if (value === null || value === undefined) return null
  switch (typeof value) {
    case "bigint":
      return Number(value)
    case "number":
      return Number.isFinite(value) ? value : { float: String(value) }
    case "string":
    case "boolean":
      return value
  }
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString("base64") }
  if (value instanceof Date) return { timestamp: value.getTime() }
  if (A.isCounter(value)) return value.value
  if (A.isImmutableString(value)) return value.val
  if (Array.isArray(value)) return value.map(plain)
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]))
}
