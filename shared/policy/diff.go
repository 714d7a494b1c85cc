package policy

import (
	"encoding/json"
	"slices"
)

// Diff is what two documents differ in.
type Diff struct {
	Added, Removed []Rule
	Changed        []RuleChange
	Moved          bool // the rules that both have are in another order
	Tests          bool // the document's own tests differ
}

// RuleChange is a rule that both documents have.
type RuleChange struct {
	Before, After Rule
	Fields        []string // which differ, by their names
}

// Compare says what differs between two documents. Rules are the same by their id.
func Compare(before, after Document) Diff {
	var d Diff
	old := map[string]Rule{}
	for _, r := range before.Rules {
		old[r.ID] = r
	}
	now := map[string]bool{}
	var orderAfter []string
	for _, r := range after.Rules {
		now[r.ID] = true
		was, ok := old[r.ID]
		if !ok {
			d.Added = append(d.Added, r)
			continue
		}
		orderAfter = append(orderAfter, r.ID)
		if fields := ruleFields(was, r); len(fields) > 0 {
			d.Changed = append(d.Changed, RuleChange{was, r, fields})
		}
	}
	var orderBefore []string
	for _, r := range before.Rules {
		if now[r.ID] {
			orderBefore = append(orderBefore, r.ID)
		} else {
			d.Removed = append(d.Removed, r)
		}
	}
	d.Moved = !slices.Equal(orderBefore, orderAfter)
	d.Tests = !same(before.Tests, after.Tests)
	return d
}

func ruleFields(a, b Rule) (fields []string) {
	for _, f := range []struct {
		name string
		a, b any
	}{
		{"name", a.Name, b.Name},
		{"formations", a.Formations, b.Formations},
		{"providers", a.Providers, b.Providers},
		{"when", a.When, b.When},
		{"require", a.Require, b.Require},
		{"effect", a.Effect, b.Effect},
		{"grant", a.Grant, b.Grant},
		{"tests", a.Tests, b.Tests},
	} {
		if !same(f.a, f.b) {
			fields = append(fields, f.name)
		}
	}
	return fields
}

// same compares as the values would be kept.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
