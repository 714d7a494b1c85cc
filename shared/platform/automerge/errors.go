package automerge

import "errors"

var (
	// ErrMalformed says that bytes are not what they claim to be.
	ErrMalformed = errors.New("automerge: malformed")
	// ErrLimit says that bytes may be well formed but ask for more than Limits allow.
	ErrLimit = errors.New("automerge: over limit")
	// ErrMissingDeps says that a change came before one it depends on.
	ErrMissingDeps = errors.New("automerge: missing dependencies")
	// ErrDuplicate says that the document has the change already.
	ErrDuplicate = errors.New("automerge: duplicate change")
	// ErrSequence says that a change does not follow its author's last one, or
	// numbers its operations below those it depends on.
	ErrSequence = errors.New("automerge: out of sequence")
	// ErrBadOp says that an operation refers to something that is not there, or
	// is not of the kind it needs.
	ErrBadOp = errors.New("automerge: bad operation")
	// ErrTooLong says that the patches of one change are longer than asked for.
	ErrTooLong = errors.New("automerge: patches too long")
)
