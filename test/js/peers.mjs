// Real automerge-repo peers that edit shared documents through one or more sync
// servers, and at the end report what the library itself holds.
//
// One line of JSON on standard input says what to do:
//
//   urls        a WebSocket address per peer, two at least: that another peer has
//               a change shows that the server has it
//   documents   how many documents they share                      (50)
//   changes     how many changes they make in all                  (2000)
//   rate        changes a second, 0 for as fast as they can        (0)
//   seed        of every decision made here                        (random)
//   retry_ms    pause before a peer connects again                 (100)
//   timeout_s   how long they may take to agree after the last edit (180)
//   report      the file the report goes to
//
// Standard output has a line of JSON per event: "start", "change" (every 10th,
// with the number made so far), "edited", "waiting", "converged", "noise" (an
// error of a connection that a restart explains), "done". The report:
//
//   {seed, peers: [id], documents: {id: {heads, changes: [{hash, deps, actor, seq, startOp, raw}], json}}}
//
// The exit status is 0 if all peers ended with the same changes.

import * as A from "@automerge/automerge"
import { Repo } from "@automerge/automerge-repo"
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"
import { writeFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { pathToFileURL } from "node:url"
import { plain } from "./plain.mjs"
import { Random } from "./random.mjs"

const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + "\n")
const sleep = ms => new Promise(done => setTimeout(done, ms))

const words = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hôtel", "índia", "東", "🚚", "kilo 🧭"]

// begin is what every document starts as.
const begin = (rng, n) => ({
  title: `document ${n}`,
  meta: { owner: rng.pick(words), priority: rng.int(5), open: true },
  items: [rng.pick(words), rng.int(100), { name: rng.pick(words), qty: rng.int(9) }],
  notes: `Notes of ${n}. `,
  counters: { total: new A.Counter(rng.int(10)) },
  extra: {},
})

const scalar = rng =>
  rng.weighted([
    [4, () => rng.int(1_000_000)],
    [2, () => rng.int(1000) / 8],
    [1, () => -rng.int(1000)],
    [4, () => `${rng.pick(words)} ${rng.int(100)}`],
    [1, () => new A.ImmutableString(rng.pick(words))],
    [1, () => rng.int(2) === 1],
    [1, () => null],
    [1, () => new Date(1_700_000_000_000 + rng.int(1_000_000_000))],
    [1, () => Uint8Array.from({ length: rng.int(6) }, () => rng.int(256))],
    [1, () => ""],
  ])

const nested = (rng, depth = 0) =>
  rng.weighted([
    [3, () => scalar(rng)],
    [depth < 2 ? 2 : 0, () => ({ a: nested(rng, depth + 1), b: scalar(rng), "odd key/~": scalar(rng) })],
    [depth < 2 ? 2 : 0, () => Array.from({ length: rng.int(4) }, () => nested(rng, depth + 1))],
  ])

const isMap = v =>
  v !== null && typeof v === "object" && !Array.isArray(v) && !(v instanceof Date) && !(v instanceof Uint8Array) &&
  !A.isCounter(v) && !A.isImmutableString(v)

// edits are the ways a document is changed; a weight and what is done.
// Counters are made once under a name of their own: when two peers put a counter
// at the same place and the winner is deleted, the library's own patches
// contradict its own document.
const edits = (rng, peer) => [
  [6, d => { d.meta[rng.pick(["owner", "priority", "open", "place"])] = scalar(rng) }],
  [5, d => { d.extra[`k${rng.int(8)}`] = nested(rng) }],
  [3, d => { const keys = Object.keys(d.extra); if (keys.length) delete d.extra[rng.pick(keys)] }],
  [3, d => {
    const maps = Object.keys(d.extra).filter(k => isMap(d.extra[k]))
    if (maps.length) d.extra[rng.pick(maps)][`n${rng.int(3)}`] = scalar(rng)
  }],
  [3, d => {
    const lists = Object.keys(d.extra).filter(k => Array.isArray(d.extra[k]))
    if (lists.length) d.extra[rng.pick(lists)].push(nested(rng, 1))
  }],
  [6, d => { d.items.push(nested(rng, 1)) }],
  [5, d => { d.items.splice(rng.int(d.items.length + 1), 0, scalar(rng), scalar(rng)) }],
  [5, d => { if (d.items.length) d.items.splice(rng.int(d.items.length), 1 + rng.int(2)) }],
  [4, d => { if (d.items.length) d.items[rng.int(d.items.length)] = scalar(rng) }],
  [2, d => {
    const i = d.items.findIndex(isMap)
    if (i >= 0) d.items[i].qty = rng.int(50)
  }],
  [10, d => { const at = rng.int(d.notes.length + 1); A.splice(d, ["notes"], at, 0, rng.pick(words) + " ") }],
  [6, d => {
    if (d.notes.length) A.splice(d, ["notes"], rng.int(d.notes.length), 1 + rng.int(5), rng.int(2) ? rng.pick(words) : "")
  }],
  [3, d => { A.updateText(d, ["title"], `${d.title.slice(0, 24)} ${rng.pick(words)}`) }],
  [7, d => { d.counters.total?.increment(1 + rng.int(9)) }],
  [2, d => { d.counters.total?.decrement(1 + rng.int(3)) }],
  [1, d => { d.counters[`${peer}-${rng.int(1e9)}`] = new A.Counter(rng.int(5)) }],
  [1, d => {
    const own = Object.keys(d.counters).filter(k => k.startsWith(`${peer}-`))
    if (own.length) delete d.counters[rng.pick(own)]
  }],
  [2, d => { // several things in one change
    d.meta.owner = rng.pick(words)
    d.items.unshift(rng.int(10))
    d.counters.total?.increment(1)
    delete d.extra.k0
  }],
]

const headsOf = handle => A.getHeads(handle.doc()).sort().join()

// pick tries until an edit changes something: some have nothing to act on.
const edit = (rng, peer, handle) => {
  for (let tries = 0; tries < 50; tries++) {
    const before = headsOf(handle)
    handle.change(rng.choose(edits(rng, peer)))
    if (headsOf(handle) !== before) return
  }
  throw new Error("no edit changed anything")
}

export const run = async job => {
  const rng = new Random(job.seed)
  const ids = job.urls.map((_, i) => `peer-${job.name ?? "js"}-${i}`)
  const repos = job.urls.map((url, i) => new Repo({
    peerId: ids[i],
    network: [new WebSocketClientAdapter(url, job.retry_ms)],
  }))
  say("start", { seed: job.seed, peers: ids })

  const documents = [] // {url, handles: [per peer, null until it has it]}
  const ready = handle => handle !== null && handle.isReady()

  const seeking = new Set()
  const look = () => {
    for (const document of documents) {
      repos.forEach((repo, i) => {
        const key = `${document.url} ${i}`
        if (document.handles[i] || seeking.has(key)) return
        seeking.add(key)
        repo.find(document.url)
          .then(handle => { document.handles[i] = handle }, () => {}) // not there yet: asked again
          .finally(() => seeking.delete(key))
      })
    }
  }
  const looking = setInterval(look, 200)

  const create = () => {
    const n = documents.length
    const i = n % repos.length
    const handle = repos[i].create(begin(rng, n))
    const handles = repos.map(() => null)
    handles[i] = handle
    // Every fourth document reaches one more peer by another way than the server:
    // peers of a mesh have each other too.
    if (n % 4 === 3) {
      const j = (i + 1) % repos.length
      handles[j] = repos[j].import(A.save(handle.doc()), { docId: handle.documentId })
    }
    documents.push({ url: handle.url, id: handle.documentId, handles })
  }

  let made = 0
  const count = () => {
    made++
    if (made % 10 === 0) say("change", { made })
  }
  const started = Date.now()
  while (made < job.changes) {
    // All documents are there by the time half of the changes are.
    const due = Math.min(job.documents, 1 + Math.floor((made * 2 * job.documents) / job.changes))
    if (documents.length < due) {
      create()
      count()
    } else {
      const i = rng.int(repos.length)
      const mine = documents.filter(document => ready(document.handles[i]))
      if (mine.length) {
        // A few documents are hot, so that edits really are concurrent.
        const document = rng.int(3) === 0 ? mine[rng.int(Math.min(4, mine.length))] : rng.pick(mine)
        for (let burst = rng.int(5) === 0 ? 3 : 1; burst > 0 && made < job.changes; burst--) {
          edit(rng, i, document.handles[i])
          count()
        }
      }
    }
    const ahead = job.rate ? started + (made / job.rate) * 1000 - Date.now() : 0
    await sleep(Math.max(0, ahead))
  }
  say("edited", { made, ms: Date.now() - started })

  const apart = () => documents.filter(d => !d.handles.every(ready) || new Set(d.handles.map(headsOf)).size > 1)
  const deadline = Date.now() + job.timeout_s * 1000
  let told = 0
  while (apart().length && Date.now() < deadline) {
    if (Date.now() - told > 1000) {
      say("waiting", { documents: apart().length })
      told = Date.now()
    }
    await sleep(50)
  }
  const left = apart()
  say(left.length ? "apart" : "converged", {
    documents: left.map(d => ({ id: d.id, has: d.handles.map(h => (ready(h) ? A.getAllChanges(h.doc()).length : 0)) })),
  })
  clearInterval(looking)

  const report = { seed: job.seed, peers: ids, documents: {} }
  for (const d of documents) {
    const doc = d.handles.find(ready).doc()
    report.documents[d.id] = {
      heads: A.getHeads(doc).sort(),
      changes: A.getAllChanges(doc).map(raw => {
        const { hash, deps, actor, seq, startOp } = A.decodeChange(raw)
        return { hash, deps, actor, seq, startOp, raw: Buffer.from(raw).toString("base64") }
      }),
      json: plain(doc),
    }
  }
  writeFileSync(job.report, JSON.stringify(report))
  say("done", { documents: documents.length, changes: made })
  return left.length === 0
}

// A server that is killed leaves sockets in every state there is; the adapter
// throws some of that where nobody can catch it.
const explained = /ECONNRESET|ECONNREFUSED|EPIPE|socket hang up|not ready|closed before|Unexpected server response|Invalid WebSocket frame/
process.on("uncaughtException", error => {
  const text = `${error?.code ?? ""} ${error?.message ?? error}`
  say("noise", { error: text.replace(/ticket=[^&\s]+/g, "ticket=…") })
  if (!explained.test(text)) {
    console.error(error)
    process.exit(3)
  }
})

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const lines = createInterface({ input: process.stdin })
  const line = (await lines[Symbol.asyncIterator]().next()).value
  const job = {
    documents: 50, changes: 2000, rate: 0, retry_ms: 100, timeout_s: 180,
    seed: Math.floor(Math.random() * 2 ** 31),
    ...JSON.parse(line),
  }
  if (job.urls.length < 2) throw new Error("two peers at least")
  process.exit((await run(job)) ? 0 : 1)
}
