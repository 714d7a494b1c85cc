// Package automerge reads Automerge documents without the Automerge library:
// it decodes and checks single changes, keeps the op set of a document, says in
// patches what each change did to it, and speaks version 1 of the sync protocol.
//
// It reads; it does not write documents. Everything a peer sends is hostile
// until checked, so every length is bounded before memory is reserved for it
// (see [Limits]), a change is validated whole before the first of its ops is
// applied, and nothing here panics on any input.
//
// # Changes
//
// [DecodeChange] takes one chunk and returns a [Change] whose checksum was
// verified. [Doc.Apply] adds it to a document and returns what it did;
// [Doc.Replay] does the same without the report, for loading from a log. Both
// want the dependencies of a change to be there first: holding changes back
// until then is the caller's business.
//
// # Patches
//
// A [Patch] is what the JavaScript library reports to its patchCallback, in the
// same order, with the same names. PATCHES.md beside this file lists the shapes
// and how values that JSON lacks are written.
//
// # Sync
//
// A [SyncState] belongs to one connection and one document. The caller decodes a
// message, applies and stores what it wants of its changes, and only then calls
// [Doc.ReceiveSync] and [Doc.GenerateSync], so that the peer is told of nothing
// that is not durable.
//
// A [Doc] and its SyncStates belong to one goroutine.
package automerge
