// Package filter says which events a sink wants: by globs over the document's id
// and by an expression in CEL (the Common Expression Language) over the event. It
// reads and judges; storing filters, and what becomes of an event that is not
// wanted, belong to others.
//
// # Nothing is lost by a broken filter
//
// An expression can fail on an event (a list shorter than it thought, a value of
// another type) or cost more than one event may. Match then returns an error and
// no verdict. The gateway delivers such an event and counts it: whoever filters
// would rather have one event too many than miss one without a word.
//
// # What an expression sees
//
// event, whose fields are those of event.DocumentData that do not depend on the
// sink; patches, a list; time, when the gateway stored the change. Event and patch
// are types, so that a misspelt field is an error when the filter is saved and not
// a filter that never matches. Only what an evaluation reaches is converted, and
// patches are decoded only then.
//
// # What it may cost
//
// An expression looks at its input and cannot build anything larger, and its cost is
// estimated for an ordinary event and counted for each: see package expression.
package filter

import (
	"fmt"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/platform/expression"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/glob"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// MaxDocuments is how many globs a filter may have.
const MaxDocuments = 50

// Spec is a filter as it is written and kept. What it leaves out does not limit.
type Spec struct {
	// Documents are globs over the whole id: * is any run of characters but : and /,
	// ** any run, ? any one character. One that begins with ! excludes.
	Documents []string `json:"documents,omitempty"`
	// Where is a CEL expression that is true or false.
	Where string `json:"where,omitempty"`
}

// IsZero reports whether the filter lets everything pass.
func (s Spec) IsZero() bool { return len(s.Documents) == 0 && s.Where == "" }

// Filter is a Spec made ready. It may be used by several goroutines at once; nil
// lets everything pass.
type Filter struct {
	documents glob.List
	where     *expression.Expression // nil: none
}

// Compile makes a filter ready; for an empty Spec it is nil. A Spec that is wrong
// gives a fault.Invalid that names every wrong part, below /filter.
func Compile(s Spec) (*Filter, error) {
	if s.IsZero() {
		return nil, nil
	}
	var wrong []fault.Field
	f := &Filter{}
	if len(s.Documents) > MaxDocuments {
		wrong = append(wrong, fault.Field{
			Pointer: "/filter/documents", Detail: fmt.Sprintf("holds more than %d globs", MaxDocuments),
		})
		s.Documents = nil
	}
	for i, text := range s.Documents {
		g, err := glob.Parse(text)
		if err != nil {
			wrong = append(wrong, fault.Field{Pointer: fmt.Sprintf("/filter/documents/%d", i), Detail: err.Error()})
		}
		f.documents.Add(g)
	}
	if s.Where != "" {
		w, err := compileWhere(s.Where)
		if err != nil {
			wrong = append(wrong, fault.Field{Pointer: "/filter/where", Detail: err.Error()})
		}
		f.where = w
	}
	if len(wrong) > 0 {
		return nil, &fault.Error{
			Kind: fault.Invalid, Message: wrong[0].Pointer[1:] + " " + wrong[0].Detail, Fields: wrong,
		}
	}
	return f, nil
}

// Document reports whether the document's id passes the globs: one that includes
// it, if there are any such, and none that excludes it. If not, Match is false for
// each of its events.
func (f *Filter) Document(id string) bool {
	return f == nil || f.documents.Match(id)
}

// Match reports whether the event of this change is wanted. With an error it is
// not known; errors.Is(err, ErrCost) tells the two reasons apart. The text may
// quote the event: it is for the organization's eyes, not for the gateway's log.
func (f *Filter) Match(key tenant.Key, c change.Settled) (bool, error) {
	if !f.Document(c.Document) {
		return false, nil
	}
	if f == nil || f.where == nil {
		return true, nil
	}
	return match(f.where, key, c)
}
