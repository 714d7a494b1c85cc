// Package fault classifies failures, so that whoever knows why something failed
// can say it once and everybody above only adds where. It knows nothing of HTTP:
// platform/web holds the one table from a class to a status.
//
// The message of a fault is written for the caller of an API and may be shown;
// the cause (see Wrap) is for the log and is not.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind is a class of failure. A Kind is itself an error, so
// errors.Is(err, fault.NotFound) asks in plain words.
type Kind string

// The classes. What is not one of them is an internal error.
const (
	// Invalid: the input can never be accepted as it is.
	Invalid Kind = "invalid"
	// Malformed: the input could not even be read (syntax, encoding).
	Malformed Kind = "malformed"
	// Unauthenticated: no credential, or one that is not known.
	Unauthenticated Kind = "unauthenticated"
	// Forbidden: a known caller may not do this.
	Forbidden Kind = "forbidden"
	// NotFound: the thing does not exist, or belongs to somebody else.
	NotFound Kind = "not found"
	// Mismatch: the caller means another state of the thing than the one it is in.
	Mismatch Kind = "mismatch"
	// Conflict: the state of the thing does not allow it (exists already, stale, wrong state).
	Conflict Kind = "conflict"
	// TooLarge: the input is longer than the limit that the message names.
	TooLarge Kind = "too large"
	// UnsupportedMedia: the content type is not one that is read here.
	UnsupportedMedia Kind = "unsupported media type"
	// Exhausted: a quota or rate is used up; see RetryAfter.
	Exhausted Kind = "exhausted"
	// Unavailable: a part this depends on does not answer now; trying again may help.
	Unavailable Kind = "unavailable"
	// Stale: the writer lost its lease; somebody else is in charge now.
	Stale Kind = "stale"
	// Sealed: a secret that this needs does not open. Trying again does not help
	// before somebody has done something about its key.
	Sealed Kind = "sealed"
)

// Error makes a Kind usable as a target of errors.Is.
func (k Kind) Error() string { return string(k) }

// New returns a fault of this class whose message may be shown to the caller.
func (k Kind) New(format string, args ...any) error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// Wrap is New with a cause that is kept for the log only.
func (k Kind) Wrap(cause error, format string, args ...any) error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// Error is a classified failure.
type Error struct {
	Kind    Kind
	Message string        // for the caller
	Cause   error         // for the log; may be nil
	After   time.Duration // when trying again makes sense; 0 is unknown
	Fields  []Field       // which parts of the input are wrong; may be empty
	Limit   *Limit        // which limit was reached; may be nil
}

// Limit is a limit that was reached.
type Limit struct {
	Name  string `json:"name"`
	Value int    `json:"value"`
}

// Field is one wrong part of an input, by its JSON pointer.
type Field struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap lets errors.Is find both the class and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause != nil {
		return []error{e.Kind, e.Cause}
	}
	return []error{e.Kind}
}

// RetryIn returns err's fault with the time after which to try again.
func RetryIn(err error, after time.Duration) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	again := *e
	again.After = after
	return &again
}

// Of returns the fault inside err, or nil if err was never classified.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
