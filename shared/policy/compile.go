package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/expression"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/glob"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Policy is a document, or two, made ready. It may be used by many at once.
type Policy struct {
	rules                     []rule // a formation's own before its organization's
	version, formationVersion int64
}

// rule is a rule made ready.
type rule struct {
	Rule
	name       string // with its formation, if it is a formation's
	formations glob.List
	when       *expression.Tree // nil: none
	grant      enrollment.Grant
	validity   time.Duration
}

// Compile makes an organization's rules ready. A document that is wrong gives a
// fault.Invalid that names its wrong parts, by JSON pointers from its top.
func Compile(d Document) (*Policy, error) {
	rules, err := compile(d, "")
	return &Policy{rules: rules, version: d.Version}, err
}

// CompileFor makes ready what decides on a formation's nodes: its own rules come
// before its organization's, and a rule that denies wins over all of both.
func CompileFor(s Sources) (*Policy, error) {
	own, err := compile(s.Formation.Document, string(s.App)+"/")
	if err != nil {
		return nil, err
	}
	p, err := Compile(s.Org.Document)
	if err != nil {
		return nil, err
	}
	p.rules = append(own, p.rules...)
	p.formationVersion = s.Formation.Document.Version
	return p, nil
}

func compile(d Document, prefix string) ([]rule, error) {
	var wrong wrongs
	if len(d.Rules) > MaxRules {
		wrong.add("/rules", "holds more than %d", MaxRules)
		return nil, wrong.err()
	}
	l, err := language()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	out := make([]rule, len(d.Rules))
	tests := len(d.Tests)
	for i, r := range d.Rules {
		at := fmt.Sprintf("/rules/%d", i)
		compiled, bad := compileRule(l, r)
		wrong.addAll(at, bad)
		if seen[r.ID] {
			wrong.add(at+"/id", "is another rule's as well")
		}
		seen[r.ID] = true
		compiled.name = prefix + r.ID
		out[i] = compiled
		wrong.addAll(at, checkTests(r.Tests))
		tests += len(r.Tests)
	}
	wrong.addAll("", checkTests(d.Tests))
	if tests > MaxTests {
		wrong.add("/tests", "and those of the rules are more than %d", MaxTests)
	}
	if _, err := d.Text(); err != nil {
		return nil, err
	}
	return out, wrong.err()
}

func compileRule(l *expression.Language, r Rule) (rule, []fault.Field) {
	var wrong wrongs
	out := rule{Rule: r}
	if detail := parseID(r.ID); detail != "" {
		wrong.add("/id", "%s", detail)
	}
	if r.Name != "" && !isName(r.Name) {
		wrong.add("/name", "must be one line of at most 128 characters")
	}
	for pointer, list := range map[string][]string{"/formations": r.Formations, "/providers": r.Providers, "/require": r.Require} {
		if len(list) > MaxNames {
			wrong.add(pointer, "holds more than %d", MaxNames)
			return out, wrong
		}
	}
	for i, text := range r.Formations {
		g, err := glob.Parse(text)
		if err != nil {
			wrong.add(fmt.Sprintf("/formations/%d", i), "%s", err)
		}
		out.formations.Add(g)
	}
	for i, id := range r.Providers {
		if id == "" || len(id) > maxNameBytes {
			wrong.add(fmt.Sprintf("/providers/%d", i), "must be the id of a provider")
		}
	}
	if r.When != "" {
		tree, err := l.Divide(r.When)
		if err != nil {
			wrong.add("/when", "%s", err)
		}
		out.when = tree
	}
	for i, claim := range r.Require {
		if !isClaim(claim) {
			wrong.add(fmt.Sprintf("/require/%d", i), "must be groups, roles, acr, amr, authenticated_at, expires_at or a path such as attributes.edipi")
		}
	}
	switch r.Effect {
	case Allow:
		grant, validity, bad := r.Grant.parse()
		out.grant, out.validity = grant, validity
		wrong.addAll("/grant", bad)
	case Deny:
		if r.Grant != nil {
			wrong.add("/grant", "cannot be in a rule that denies")
		}
		if len(r.Require) > 0 {
			// It would let those pass who show less.
			wrong.add("/require", "cannot be in a rule that denies; use when, with has()")
		}
	default:
		wrong.add("/effect", "must be allow or deny")
	}
	return out, wrong
}

// isClaim reports whether a rule can require this.
func isClaim(s string) bool {
	if path, ok := strings.CutPrefix(s, "attributes."); ok {
		return len(path) <= maxNameBytes && !slices.Contains(strings.Split(path, "."), "")
	}
	return slices.Contains([]string{"groups", "roles", "acr", "amr", "authenticated_at", "expires_at"}, s)
}

// has reports whether claims hold what a rule requires.
func has(c identity.Claims, claim string) bool {
	switch claim {
	case "groups":
		return len(c.Groups) > 0
	case "roles":
		return len(c.Roles) > 0
	case "acr":
		return c.ACR != ""
	case "amr":
		return len(c.AMR) > 0
	case "authenticated_at":
		return !c.AuthenticatedAt.IsZero()
	case "expires_at":
		return !c.ExpiresAt.IsZero()
	}
	var at any = c.Attributes
	for name := range strings.SplitSeq(strings.TrimPrefix(claim, "attributes."), ".") {
		m, ok := at.(map[string]any)
		if !ok {
			return false
		}
		if at, ok = m[name]; !ok {
			return false
		}
	}
	switch v := at.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// covers tells whether the rule is for a formation of this name.
func (r rule) covers(app tenant.AppID) bool { return r.formations.Match(string(app)) }
