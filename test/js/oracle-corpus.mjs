// Writes the corpus of shared/platform/automerge/testdata, to standard output:
//
//   node oracle-corpus.mjs > ../../shared/platform/automerge/testdata/corpus.json
//
// Each case is a small document made on purpose, in the form of oracle.mjs.

import * as A from "@automerge/automerge"
import { show, topological } from "./oracle-show.mjs"

const actor = n => n.toString(16).padStart(2, "0").repeat(4)
const begin = (n, f) => A.change(A.init({ actor: actor(n) }), { time: 1700000000 }, f)
const change = (d, f, message) => A.change(d, { time: 1700000001, message }, f)
const fork = (d, n) => A.clone(d, { actor: actor(n) })
const mergeAll = ([first, ...rest]) => rest.reduce((a, b) => A.merge(a, b), first)

const cases = {
  "every scalar": () => [begin(1, d => {
    Object.assign(d, {
      null: null, yes: true, no: false, int: -42, zero: 0, float: 3.25, tiny: 1e-9, huge: 1e300, nan: NaN,
      infinite: -Infinity, text: "zażółć 😀", empty: "", bytes: new Uint8Array([0, 255, 7]), date: new Date(1700000000123),
      counter: new A.Counter(5), uint: new A.Uint(7), exact: new A.Float64(2), big: 9007199254740993n,
      plain: new A.ImmutableString("not for editing"), "": "empty key", "quote\"\\\n\u2028": "odd key",
    })
  })],
  "nesting": () => {
    let d = begin(1, d => { d.a = { b: { c: [[{ d: 1 }], "x", { e: [] }] } } })
    d = change(d, d => { d.a.b.c[0][0].d = 2; d.a.b.c[2].e.push({ f: "deep" }); delete d.a.b.c[0][0].d })
    return [change(d, d => { d.a.b = { again: true } }, "replace a subtree")]
  },
  "text": () => {
    let d = begin(1, d => { d.t = "hello world" })
    d = change(d, d => A.splice(d, ["t"], 5, 1, "😀, "))
    d = change(d, d => { A.splice(d, ["t"], 0, 1, "J"); A.splice(d, ["t"], 7, 2, ""); A.splice(d, ["t"], 0, 0, "¡") })
    return [change(d, d => A.updateText(d, ["t"], "Jello, brave new world"))]
  },
  "list": () => {
    let d = begin(1, d => { d.l = [1, 2, 3, 4, 5] })
    d = change(d, d => { d.l.splice(1, 2, "a", "b", "c"); d.l[0] = 9 })
    return [change(d, d => { d.l.deleteAt(0, 2); d.l.unshift(null); d.l.push([1], { k: "v" }) })]
  },
  "counters": () => {
    const base = begin(1, d => { d.c = new A.Counter(10); d.l = [new A.Counter(1)] })
    const a = change(fork(base, 2), d => { d.c.increment(5); d.l[0].increment(2) })
    const b = change(change(fork(base, 3), d => d.c.decrement(3)), d => { d.l[0].increment(); delete d.c })
    return [a, b, change(base, d => { d.n = new A.Counter(1); d.l.push(new A.Counter(7)) })]
  },
  "deletes": () => {
    const base = begin(1, d => { d.a = 1; d.o = { x: { y: 1 } }; d.l = ["a", "b", "c", "d"]; d.t = "abcdef" })
    return [
      change(fork(base, 2), d => { delete d.a; delete d.o; d.l.splice(0, 3) }),
      change(fork(base, 3), d => { d.o.x.y = 2; d.l[1] = "B"; A.splice(d, ["t"], 1, 4, "") }),
    ]
  },
  "three writers of one key": () => {
    const base = begin(1, d => { d.k = "old" })
    const all = [2, 3, 4].map(n => change(fork(base, n), d => { d.k = n === 3 ? { from: n } : "from " + n }))
    return [change(mergeAll(all.map(d => A.clone(d, { actor: actor(9) }))), d => { d.k = "settled" }), ...all]
  },
  "three writers of one element": () => {
    const base = begin(1, d => { d.l = ["x", "y"] })
    return [2, 3, 4].map(n => change(fork(base, n), d => { d.l[1] = n; d.l.push("end " + n) }))
  },
  "inserts at the same place": () => {
    const base = begin(1, d => { d.l = ["<", ">"]; d.t = "()" })
    return [2, 3, 4].map(n => {
      let d = change(fork(base, n), d => { d.l.splice(1, 0, n, n); A.splice(d, ["t"], 1, 0, "ab" + n) })
      return change(d, d => { d.l.splice(1, 0, "first " + n); A.splice(d, ["t"], 2, 1, "…") })
    })
  },
  "deleting a conflict's winner": () => {
    const base = begin(1, d => { d.l = [0] })
    const low = change(fork(base, 2), d => { d.k = { deep: { er: [1, "t"] } }; d.l[0] = { in: "list" } })
    const high = change(fork(base, 3), d => { d.k = "winner"; d.l[0] = "winner" })
    const gone = change(high, d => { delete d.k; d.l.splice(0, 1) })
    return [low, gone]
  },
  "deleting a counter's winner": () => {
    const base = begin(1, d => { d.x = 1 })
    const low = change(change(fork(base, 2), d => { d.k = new A.Counter(1) }), d => d.k.increment(4))
    const high = change(change(fork(base, 3), d => { d.y = 1 }), d => { d.k = "winner" })
    return [low, change(high, d => { delete d.k })]
  },
  "map in list, list in map, text in list": () => {
    const base = begin(1, d => { d.l = [{ n: 1 }, { n: 2 }]; d.m = { l: [1, 2] }; d.tl = ["one", "two"] })
    const a = change(fork(base, 2), d => { d.l.unshift({ n: 0 }); d.m.l.push(3); A.splice(d, ["tl", 1], 0, 0, "forty ") })
    const b = change(fork(base, 3), d => { d.l[1].n = "two"; d.m.l.splice(0, 1); d.tl.unshift("zero"); A.splice(d, ["tl", 2], 3, 0, "!") })
    return [a, b]
  },
  "marks": () => {
    let d = begin(1, d => { d.t = "the quick fox jumps" })
    d = change(d, d => A.mark(d, ["t"], { start: 4, end: 9, expand: "both" }, "bold", true))
    const a = change(fork(d, 2), d => { A.splice(d, ["t"], 9, 0, "er"); A.mark(d, ["t"], { start: 0, end: 13, expand: "after" }, "link", "https://example.org") })
    const b = change(fork(d, 3), d => { A.unmark(d, ["t"], { start: 6, end: 9, expand: "none" }, "bold"); A.splice(d, ["t"], 0, 4, "A ") })
    return [a, b]
  },
  "blocks": () => {
    let d = begin(1, d => { d.t = "one two" })
    d = change(d, d => A.splitBlock(d, ["t"], 3, { type: "paragraph", parents: [], attrs: { n: 1 } }))
    const a = change(fork(d, 2), d => A.updateBlock(d, ["t"], 3, { type: "heading", parents: ["x"], attrs: { n: 2 } }))
    const b = change(fork(d, 3), d => { A.splice(d, ["t"], 4, 1, ""); A.splitBlock(d, ["t"], 0, { type: "list", parents: [], attrs: {} }) })
    return [a, b, change(fork(d, 4), d => A.joinBlock(d, ["t"], 3))]
  },
  "empty change, message, odd actors": () => {
    const d = begin(1, d => { d.a = 1 })
    const e = A.emptyChange(A.clone(d, { actor: "00" }), { time: 0, message: "nothing" })
    return [e, change(A.clone(d, { actor: "ff".repeat(40) }), d => { d.a = 2 }, "żółw")]
  },
  "five hundred keys": () => [begin(1, d => { for (let i = 0; i < 500; i++) d["key " + i] = { i } })],
}

function generator(a) {
  return () => { a = (a * 1103515245 + 12345) % 2147483648; return a / 2147483648 }
}

const out = Object.entries(cases).map(([name, make], i) => {
  const whole = mergeAll(make().map(d => A.clone(d, { actor: actor(99) })))
  let patches
  let copy = A.init({ patchCallback: p => { patches = p } })
  const changes = topological(A.getAllChanges(whole), generator(i + 1)).map(raw => {
    patches = []
    ;[copy] = A.applyChanges(copy, [raw])
    const reloaded = A.load(A.save(copy))
    return { raw: Buffer.from(raw).toString("base64"), patches, stale: show(copy) !== show(reloaded) || undefined }
  })
  return show({ name, changes, heads: A.getHeads(whole), value: A.load(A.save(whole)) })
})
console.log("[\n" + out.join(",\n") + "\n]")
