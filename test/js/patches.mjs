// Compares the patches of events with the library's own.
//
//   node patches.mjs < events.ndjson
//
// A line is {document_id, seq, change, patches}: the change as base64 and the
// patches the event had, in the order of seq within each document. Each change
// is applied by itself to the library's document, and what the library reports
// for it is compared. The last line of output is
//
//   {documents, changes, different, patches, heads: {id: [hash]}}
//
// and before it comes a line per change that differs (the first 20 in full).
// The exit status is 0 if none does.
import * as A from "@automerge/automerge"
import { createInterface } from "node:readline"
import { isDeepStrictEqual } from "node:util"
import { plain } from "./plain.mjs"

// tidy gives a patch the form that events use. The library leaves out what has
// no value, so both sides do.
const tidy = patch =>
  Object.fromEntries(
    Object.entries(patch)
      .filter(([, v]) => v !== undefined)
      .map(([k, v]) => [k, plain(v)]),
  )

const documents = new Map()
let changes = 0
let patches = 0
let different = 0
const differs = line => {
  different++
  console.log(JSON.stringify(different <= 20 ? line : { document_id: line.document_id, seq: line.seq }))
}

for await (const line of createInterface({ input: process.stdin })) {
  if (!line.trim()) continue
  const event = JSON.parse(line)
  const held = documents.get(event.document_id) ?? { doc: A.init(), seq: 0 }
  changes++
  if (event.seq !== held.seq + 1) {
    differs({ document_id: event.document_id, seq: event.seq, error: `seq ${event.seq} follows ${held.seq}` })
  }
  let theirs = []
  try {
    const raw = new Uint8Array(Buffer.from(event.change, "base64"))
    const before = A.getHeads(held.doc).join()
    const [doc] = A.applyChanges(held.doc, [raw], { patchCallback: got => theirs.push(...got) })
    held.doc = doc
    if (A.getHeads(doc).join() === before) throw new Error("the library took nothing: a dependency is missing or it has it already")
  } catch (error) {
    differs({ document_id: event.document_id, seq: event.seq, error: String(error?.message ?? error) })
  }
  held.seq = event.seq
  documents.set(event.document_id, held)
  theirs = theirs.map(tidy)
  patches += theirs.length
  // Through JSON, so that -0 and 0 or 1.0 and 1 are what they are on the wire.
  const ours = event.patches ?? []
  if (!isDeepStrictEqual(JSON.parse(JSON.stringify(theirs)), ours)) {
    differs({ document_id: event.document_id, seq: event.seq, library: theirs, event: ours, change: event.change })
  }
}

const heads = Object.fromEntries([...documents].map(([id, { doc }]) => [id, A.getHeads(doc).sort()]))
console.log(JSON.stringify({ documents: documents.size, changes, different, patches, heads }))
process.exit(different ? 1 : 0)
