// Package control is the names under which orders to the gateway travel over NATS:
// organization, formation, the word ctl, and what is to be done.
package control

import (
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const (
	mark     = "ctl"
	wholeOrg = "_org" // in the place of a formation; no formation can have this name

	// MaxSubjectBytes is the longest subject that is read.
	MaxSubjectBytes = 512
)

// Subject says whom an order is about and what it asks for.
type Subject struct {
	Org  tenant.OrgID
	App  tenant.AppID // empty for what is about the organization
	Kind string       // such as "formations.create"
}

// ParseSubject reads a subject. Whether there is such a kind of order, and for a
// formation or an organization, is for whoever carries it out to say.
func ParseSubject(text string) (Subject, error) {
	if len(text) > MaxSubjectBytes {
		return Subject{}, fault.Invalid.New("subject of %d bytes is longer than %d", len(text), MaxSubjectBytes)
	}
	token := strings.SplitN(text, ".", 4)
	if len(token) != 4 || token[2] != mark {
		return Subject{}, fault.Invalid.New("subject must be organization, formation, %s and a kind, with dots between", mark)
	}
	org, err := tenant.ParseOrgID(token[0])
	if err != nil {
		return Subject{}, err
	}
	s := Subject{Org: org, Kind: token[3]}
	if token[1] != wholeOrg {
		if s.App, err = tenant.ParseAppID(token[1]); err != nil {
			return Subject{}, err
		}
	}
	for word := range strings.SplitSeq(s.Kind, ".") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz_") != "" {
			return Subject{}, fault.Invalid.New("kind must be words of lower-case letters, with single dots between")
		}
	}
	return s, nil
}

// String returns the subject as it is subscribed to.
func (s Subject) String() string {
	app := string(s.App)
	if app == "" {
		app = wholeOrg
	}
	return strings.Join([]string{string(s.Org), app, mark, s.Kind}, ".")
}
