// Random documents as the JavaScript library sees them, for tests of
// shared/platform/automerge.
//
//   node oracle.mjs <seed> <documents> [marks]
//
// Prints a line of JSON per document: its changes in a random causal order, each
// with the patches that applying just that change reports, and what the document
// holds in the end. The same arguments give the same documents.

import * as A from "@automerge/automerge"
import { show, topological } from "./oracle-show.mjs"

const seed = Number(process.argv[2] ?? 1)
const documents = Number(process.argv[3] ?? 10)
const withMarks = process.argv[4] === "marks"

// mulberry32
function generator(a) {
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

function write(line) {
  return new Promise(resolve => process.stdout.write(line + "\n", resolve))
}

for (let n = 0; n < documents; n++) {
  const random = generator(seed * 1000003 + n)
  await write(show(document(random)))
}

// stale reports whether what the library shows after patching differs from what
// it shows of the same document loaded again, which is a fault of the library.
function stale(doc) {
  return show(sorted(doc)) !== show(sorted(A.load(A.save(doc)))) || undefined
}

function sorted(v) {
  if (Array.isArray(v)) return v.map(sorted)
  if (v === null || typeof v !== "object" || Object.getPrototypeOf(v) !== Object.prototype) return v
  return Object.fromEntries(Object.keys(v).sort().map(k => [k, sorted(v[k])]))
}

function document(random) {
  const pick = n => Math.floor(random() * n)
  const one = list => list[pick(list.length)]
  const actors = 1 + pick(4)
  const actorId = () => Array.from({ length: 16 }, () => pick(256).toString(16).padStart(2, "0")).join("")
  let docs = [A.init({ actor: actorId() })]
  const base = A.change(docs[0], { time: 0 }, d => {
    d.m = {}
    d.l = []
    d.t = ""
    if (pick(2)) d.c = new A.Counter(pick(10))
  })
  docs = [base]
  while (docs.length < actors) docs.push(A.clone(base, { actor: actorId() }))

  const strings = ["", "a", "hello", "żółw", "😀", "line\nbreak", "\u2028\"\\", "x".repeat(30)]
  const scalar = () => {
    switch (pick(14)) {
      case 0: return null
      case 1: return true
      case 2: return false
      case 3: return pick(1000) - 500
      case 4: return random() * 1e6
      case 5: return one(strings)
      case 6: return new Date(pick(2 ** 31))
      case 7: return new Uint8Array([pick(256), pick(256)])
      case 8: return new A.Counter(pick(20))
      case 9: return new A.Uint(pick(1000))
      case 10: return new A.ImmutableString(one(strings))
      case 11: return one([1e21, 1e-7, -0.5, Infinity, NaN, 9007199254740993, 1 / 3])
      case 12: return BigInt(Number.MAX_SAFE_INTEGER) + BigInt(pick(1000))
      default: return pick(5)
    }
  }
  const value = depth => {
    if (depth > 0 && pick(4) === 0) {
      switch (pick(3)) {
        case 0: return { [one(["a", "b", "k"])]: value(depth - 1), z: scalar() }
        case 1: return Array.from({ length: pick(3) }, () => value(depth - 1))
        default: return one(strings)
      }
    }
    return scalar()
  }
  const keys = ["a", "b", "k", "z", "é"]

  const edit = (obj, path, depth) => {
    if (Array.isArray(obj)) return editList(obj, depth)
    return editMap(obj, path, depth)
  }
  const isObject = v => v !== null && typeof v === "object" && !(v instanceof Date) &&
    !(v instanceof Uint8Array) && !(v instanceof A.ImmutableString) && !isCounter(v)
  const isCounter = v => v instanceof A.Counter || (v !== null && typeof v === "object" && v.constructor && v.constructor.name.endsWith("Counter"))
  const bump = c => (pick(2) ? c.increment(1 + pick(5)) : c.decrement(1 + pick(5)))

  function editText(doc, path) {
    const text = path.reduce((o, k) => o[k], doc)
    const at = pick(text.length + 1)
    const action = pick(withMarks ? 6 : 4)
    if (action === 4 && text.length > 1) {
      const start = pick(text.length - 1)
      const end = start + 1 + pick(text.length - start - 1)
      A.mark(doc, path, { start, end, expand: one(["before", "after", "both", "none"]) }, one(["bold", "link"]), one([true, "x", 3]))
    } else if (action === 5 && text.length > 1) {
      const start = pick(text.length - 1)
      const end = start + 1 + pick(text.length - start - 1)
      A.unmark(doc, path, { start, end, expand: "both" }, one(["bold", "link"]))
    } else {
      const cut = pick(3) === 0 ? 0 : Math.min(pick(4), text.length - at)
      A.splice(doc, path, at, cut, one(["", "a", "xyz", "żó", "😀b", "some longer words"]))
    }
  }
  function editMap(obj, path, depth) {
    const k = one(path.length === 0 ? [...keys, "m", "l", "t", "c"] : keys)
    const v = obj[k]
    if (isCounter(v) && pick(3)) return bump(v)
    if (isObject(v) && depth < 4 && pick(5)) return edit(v, [...path, k], depth + 1)
    if (v !== undefined && pick(4) === 0) {
      delete obj[k]
      return
    }
    obj[k] = value(2)
  }
  function editList(list, depth) {
    const i = pick(list.length + 1)
    if (i < list.length) {
      const v = list[i]
      if (isCounter(v) && pick(3)) return bump(v)
      if (isObject(v) && depth < 4 && pick(3)) return edit(v, ["?"], depth + 1)
      const a = pick(3)
      if (a === 0) return void list.splice(i, 1 + pick(2))
      if (a === 1) { list[i] = value(2); return }
    }
    list.splice(i, 0, ...Array.from({ length: 1 + pick(3) }, () => value(2)))
  }
  // Paths of all texts, so that they get their share of edits.
  function texts(obj, path, out) {
    for (const k of Object.keys(obj)) {
      const v = obj[k]
      const at = [...path, Array.isArray(obj) ? Number(k) : k]
      if (typeof v === "string") out.push(at)
      else if (isObject(v)) texts(v, at, out)
    }
    return out
  }

  const steps = 5 + pick(25)
  for (let s = 0; s < steps; s++) {
    const i = pick(docs.length)
    if (docs.length > 1 && pick(4) === 0) {
      docs[i] = A.merge(docs[i], docs[(i + 1 + pick(docs.length - 1)) % docs.length])
      continue
    }
    docs[i] = A.change(docs[i], { time: s, message: pick(3) ? undefined : "step " + s }, d => {
      for (let e = 1 + pick(4); e > 0; e--) {
        const all = pick(2) ? texts(d, [], []) : []
        if (all.length) editText(d, one(all))
        else edit(d, [], 0)
      }
    })
  }
  let whole = docs[0]
  for (const d of docs.slice(1)) whole = A.merge(whole, d)

  let patches
  let copy = A.init({ patchCallback: p => { patches = p } })
  const changes = topological(A.getAllChanges(whole), random).map(raw => {
    patches = []
    ;[copy] = A.applyChanges(copy, [raw])
    return { raw: Buffer.from(raw).toString("base64"), patches, stale: stale(copy) }
  })
  return { changes, heads: A.getHeads(whole), value: A.toJS(A.load(A.save(whole))) }
}
