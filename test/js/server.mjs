// A plain automerge-repo sync server, to try peers without the gateway.
//
//   node server.mjs [PORT]
//
// It prints {"url"} when it listens, and its documents as one line of JSON for
// every line on standard input. It ends with its input.
import { Repo } from "@automerge/automerge-repo"
import { WebSocketServerAdapter } from "@automerge/automerge-repo-network-websocket"
import { createInterface } from "node:readline"
import * as A from "@automerge/automerge"
import { WebSocketServer } from "ws"
import { plain } from "./plain.mjs"

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2] ?? 0) })
const repo = new Repo({ peerId: "sync-server", network: [new WebSocketServerAdapter(server)] })
server.on("listening", () => console.log(JSON.stringify({ url: `ws://127.0.0.1:${server.address().port}` })))

for await (const _ of createInterface({ input: process.stdin })) {
  const documents = {}
  for (const [id, handle] of Object.entries(repo.handles)) {
    if (!handle.isReady()) continue
    const changes = A.getAllChanges(handle.doc()).map(A.decodeChange)
    documents[id] = {
      heads: A.getHeads(handle.doc()).sort(),
      changes: changes.map(({ hash, actor, seq, time, message }) => ({ hash, actor, seq, time, message })),
      json: plain(handle.doc()),
    }
  }
  console.log(JSON.stringify({ peers: repo.peers, documents }))
}
process.exit(0)
