package automerge

// Limits bound what one change or one sync message may make us do. They are
// absolute: run-length encoding lets an honest change delete 100,000 elements in
// thirty bytes, so no ratio to the size on the wire can tell a bomb from work.
//
// The zero value of a field allows nothing; start from DefaultLimits.
type Limits struct {
	// MaxChangeBytes is the longest chunk of one change, in bytes. Default 16 MiB.
	MaxChangeBytes int
	// MaxInflatedBytes is the longest body a compressed change may unfold to,
	// in bytes. Default 16 MiB.
	MaxInflatedBytes int
	// MaxOps is the number of operations in one change. Default 200,000, each
	// costing about 100 bytes while the change is applied.
	MaxOps int
	// MaxPreds is the number of predecessors in one change, over all of its
	// operations. Default 400,000.
	MaxPreds int
	// MaxActors is the number of actors one change may mention. Default 10,000.
	MaxActors int
	// MaxActorBytes is the length of one actor id, in bytes; the libraries make
	// 16. Default 256.
	MaxActorBytes int
	// MaxDeps is the number of dependencies of one change. Default 10,000.
	MaxDeps int
	// MaxMessageBytes is the length of one sync message, in bytes. A peer sends
	// a long history in one message, so this bounds the history that can be
	// imported. Default 64 MiB.
	MaxMessageBytes int
	// MaxMessageChanges is the number of changes in one sync message.
	// Default 500,000.
	MaxMessageChanges int
	// MaxMessageHashes is the number of hashes in one sync message, over all of
	// its lists. Default 100,000.
	MaxMessageHashes int
	// MaxMessageHaves is the number of filters in one sync message; peers send
	// one. Default 16.
	MaxMessageHaves int
}

// DefaultLimits returns limits that no document known to us comes near to.
func DefaultLimits() Limits {
	return Limits{
		MaxChangeBytes:    16 << 20,
		MaxInflatedBytes:  16 << 20,
		MaxOps:            200_000,
		MaxPreds:          400_000,
		MaxActors:         10_000,
		MaxActorBytes:     256,
		MaxDeps:           10_000,
		MaxMessageBytes:   64 << 20,
		MaxMessageChanges: 500_000,
		MaxMessageHashes:  100_000,
		MaxMessageHaves:   16,
	}
}
