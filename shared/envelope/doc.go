// Package envelope seals small secrets for the database: each under a data key
// of its own, which a KeyProvider wraps with a key that never reaches the
// database.
//
// A sealed secret is bound to its Record, the row it was made for. Whoever can
// write to the database can therefore destroy secrets, but cannot make the
// gateway take the secret of one tenant for that of another. It also names the
// key that wrapped its data key, so that several may be in use at once. Envelopes
// of version 1, which peat-gateway 0.1 wrote, have neither; they are read and
// never written.
//
// What is here: the format, the binding and the providers: Local holds its key in
// memory, AWSKMSKey and VaultKey have theirs in a key service. What is not: storage,
// and which organization has which key.
package envelope
