// What a test needs to play a peer by hand: an honest document, as one sync
// message and as its changes. Prints one line of JSON:
//
//   {document_id, message, changes}      bytes as base64
import * as A from "@automerge/automerge"
import { generateAutomergeUrl, parseAutomergeUrl } from "@automerge/automerge-repo"

const base64 = bytes => Buffer.from(bytes).toString("base64")

let doc = A.from({ title: "honest", items: [1, 2, 3], count: new A.Counter(1) })
for (let i = 0; i < 20; i++) {
  doc = A.change(doc, d => {
    d.items.push({ i, at: new Date(i) })
    d.count.increment(i)
    A.splice(d, ["title"], 0, 0, `${i} `)
  })
}
// The other side has announced that it is empty and has not said that it reads
// later versions of the protocol, so all changes come as they are.
let mine = A.initSyncState()
const empty = A.encodeSyncMessage({ heads: [], need: [], have: [{ lastSync: [], bloom: new Uint8Array() }], changes: [] })
;[doc, mine] = A.receiveSyncMessage(doc, mine, empty)
const [, message] = A.generateSyncMessage(doc, mine)

console.log(JSON.stringify({
  document_id: parseAutomergeUrl(generateAutomergeUrl()).documentId,
  message: base64(message),
  changes: A.getAllChanges(doc).map(base64),
}))
