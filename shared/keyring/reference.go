package keyring

import (
	"fmt"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Allowance is what the operator lets organizations use: a list of keys by id. It
// is configuration, not data, since whoever can write to the database must not be
// able to have one organization's secrets sealed, or forged, with the key of
// another.
type Allowance struct{ rules []rule }

// rule is one entry: [ORG=]KEY. In KEY, {org} stands for the organization's id, and
// a * at the end for any rest.
type rule struct{ org, key string }

// orgMark is where the name of the organization goes in an entry.
const orgMark = "{org}"

// ParseAllowance reads entries with commas between them, such as
//
//	acme=awskms:arn:aws:kms:eu-central-1:111122223333:key/1234,vault:transit/org-{org}
func ParseAllowance(text string) (Allowance, error) {
	var a Allowance
	for entry := range strings.SplitSeq(text, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		r := rule{key: entry}
		if org, key, found := strings.Cut(entry, "="); found {
			if _, err := tenant.ParseOrgID(org); err != nil {
				return Allowance{}, fmt.Errorf("%q does not begin with the id of an organization", entry)
			}
			r = rule{org: org, key: key}
		}
		kind, name, found := strings.Cut(r.key, ":")
		switch {
		case !found || name == "" || !isKind(kind):
			return Allowance{}, fmt.Errorf("%q names no key, which would begin with local, awskms or vault and a colon", entry)
		case strings.Contains(strings.TrimSuffix(r.key, "*"), "*"):
			return Allowance{}, fmt.Errorf("%q has a * that is not at its end", entry)
		case strings.HasSuffix(r.key, orgMark+"*"):
			return Allowance{}, fmt.Errorf("%q would let one organization use the keys of those whose ids begin like its own", entry)
		case strings.ContainsFunc(r.key, func(c rune) bool { return c <= ' ' || c > '~' }):
			return Allowance{}, fmt.Errorf("%q names no key", entry)
		}
		a.rules = append(a.rules, r)
	}
	return a, nil
}

func isKind(s string) bool { return s == "local" || s == "awskms" || s == "vault" }

// Permits tells whether an organization may use a key.
func (a Allowance) Permits(org tenant.OrgID, id string) bool {
	for _, r := range a.rules {
		if r.org != "" && r.org != string(org) {
			continue
		}
		key := strings.ReplaceAll(r.key, orgMark, string(org))
		prefix, open := strings.CutSuffix(key, "*")
		if id == key || open && strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

// With returns a that also lets every organization use the keys given: the
// gateway's own.
func (a Allowance) With(ids ...string) Allowance {
	out := Allowance{rules: append([]rule(nil), a.rules...)}
	for _, id := range ids {
		out.rules = append(out.rules, rule{key: id})
	}
	return out
}
