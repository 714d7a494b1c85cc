// Package refusal says why a message of the mesh is not accepted, in the codes
// that peat-mesh has for it, so that both sides can be held to the same answer.
//
// Such an error says what is wrong with an input and never what is in it. It has
// no fault's class: whether a refused record is the caller's fault or our own
// loss, only who read it knows.
package refusal

import "fmt"

// Class is a code of peat-mesh. A Class is itself an error, so
// errors.Is(err, refusal.InvalidSignature) asks in plain words.
type Class string

// The classes.
const (
	// Serialization: the bytes are not of the form they should have.
	Serialization Class = "SERIALIZATION_ERROR"
	// InvalidDeviceID: not the name of a device.
	InvalidDeviceID Class = "INVALID_DEVICE_ID"
	// InvalidPublicKey: not a key that anybody could have.
	InvalidPublicKey Class = "INVALID_PUBLIC_KEY"
	// InvalidSignature: not signed by whom it says, or changed since.
	InvalidSignature Class = "INVALID_SIGNATURE"
	// Keypair: no key can be made of this.
	Keypair Class = "KEYPAIR_ERROR"
	// Certificate: signed, and yet not to be trusted.
	Certificate Class = "CERTIFICATE_ERROR"
	// AuthFailed: not a member, or not the message of one.
	AuthFailed Class = "AUTH_FAILED"
)

// Error makes a Class usable as a target of errors.Is.
func (c Class) Error() string { return string(c) }

// New returns an error of this class.
func (c Class) New(format string, args ...any) error {
	return &Error{Class: c, Detail: fmt.Sprintf(format, args...)}
}

// Error is why an input was refused.
type Error struct {
	Class  Class
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// Unwrap lets errors.Is find the class.
func (e *Error) Unwrap() error { return e.Class }
