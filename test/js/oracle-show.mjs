// What the generators of test cases for shared/platform/automerge share.

import { createHash } from "node:crypto"
import * as A from "@automerge/automerge"

// show is JSON.stringify with the spelling of PATCHES.md for what JSON lacks.
export function show(v) {
  if (v === null || v === undefined) return "null"
  switch (typeof v) {
    case "bigint": return v.toString()
    case "number":
      if (Number.isFinite(v)) return JSON.stringify(v)
      return `{"float":"${v}"}`
    case "object": break
    default: return JSON.stringify(v)
  }
  if (v instanceof Date) return `{"timestamp":${v.getTime()}}`
  if (v instanceof Uint8Array) return `{"bytes":"${Buffer.from(v).toString("base64")}"}`
  if (v instanceof A.Counter) return show(v.value)
  if (v instanceof A.ImmutableString) return JSON.stringify(v.toString())
  if (Array.isArray(v)) return `[${v.map(show).join(",")}]`
  const members = Object.entries(v).filter(([, x]) => x !== undefined)
  return `{${members.map(([k, x]) => JSON.stringify(k) + ":" + show(x)).join(",")}}`
}

// topological puts changes into a random order in which each comes after all it
// depends on.
export function topological(changes, random) {
  const waiting = changes.map(raw => ({ raw, ...envelope(raw) }))
  const done = new Set()
  const out = []
  while (waiting.length) {
    const ready = waiting.filter(c => c.deps.every(d => done.has(d)))
    const next = ready[Math.floor(random() * ready.length)]
    waiting.splice(waiting.indexOf(next), 1)
    done.add(next.hash)
    out.push(next.raw)
  }
  return out
}

// envelope reads hash and dependencies off a change. decodeChange would do, but
// refuses changes with integers that are no safe JavaScript numbers.
function envelope(raw) {
  let at = 9
  const number = () => {
    let n = 0
    for (let shift = 0; ; shift += 7) {
      const c = raw[at++]
      n += (c & 0x7f) * 2 ** shift
      if (c < 0x80) return n
    }
  }
  number() // the length of the rest
  const deps = Array.from({ length: number() }, () => Buffer.from(raw.slice(at, (at += 32))).toString("hex"))
  return { deps, hash: createHash("sha256").update(raw.slice(8)).digest("hex") }
}
