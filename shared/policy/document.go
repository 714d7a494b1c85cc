package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Limits of a document.
const (
	MaxDocumentBytes = 256 << 10 // as JSON
	MaxRules         = 200
	MaxTests         = 500 // of the document and its rules together
	MaxNames         = 50  // of formations, providers or claims in one rule
	maxNameBytes     = 128
)

// How long what a rule gives may be good for.
const (
	DefaultValidity = 24 * time.Hour
	MinValidity     = time.Minute
	MaxValidity     = 366 * 24 * time.Hour
)

// Document is a policy as it is written and kept.
type Document struct {
	Version int64  `json:"-"` // 0 if there is none
	Rules   []Rule `json:"rules"`
	Tests   []Test `json:"tests,omitempty"`
}

// Rule is one rule. What it leaves out does not limit.
type Rule struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	// Formations are globs over formations' names: * is any run of characters, ? any
	// one. One that begins with ! excludes.
	Formations []string `json:"formations,omitempty"`
	Providers  []string `json:"providers,omitempty"` // ids of identity providers
	When       string   `json:"when,omitempty"`      // a CEL expression that is true or false
	// Require are claims that must be there, whatever their value: groups, roles, acr,
	// amr, authenticated_at, expires_at, or a path below attributes.
	Require []string `json:"require,omitempty"`
	Effect  Effect   `json:"effect"`
	Grant   *Grant   `json:"grant,omitempty"` // of a rule that allows; without it, the least
	Tests   []Test   `json:"tests,omitempty"`
}

// Effect is what follows if a rule matches.
type Effect string

// The effects.
const (
	Allow Effect = "allow"
	Deny  Effect = "deny"
)

// Grant is what a rule gives. What it leaves out is the least: the lowest tier, the
// standard permissions, a day.
type Grant struct {
	Tier        string   `json:"tier,omitempty"`
	Permissions []string `json:"permissions,omitzero"` // absent: the standard ones; empty: none
	MaxValidity string   `json:"max_validity,omitempty"`
	// RefreshAfter is for how long certificates are renewed before the provider has to
	// vouch again; absent: until the identity's session ends.
	RefreshAfter string `json:"refresh_after,omitempty"`
	Credentials  bool   `json:"credentials,omitempty"`
	Review       bool   `json:"review,omitempty"`
}

// Test is what a policy promises of one case.
type Test struct {
	Name    string         `json:"name"`
	Claims  WrittenClaims  `json:"claims"`
	Request WrittenRequest `json:"request"`
	At      time.Time      `json:"at,omitzero"` // when it is asked; absent: when the test runs
	Expect  Expect         `json:"expect"`
}

// Expect is what a decision must be. What it leaves out may be anything.
type Expect struct {
	Allowed     bool      `json:"allowed"`
	Rule        *string   `json:"rule,omitempty"`
	Tier        *string   `json:"tier,omitempty"`
	Permissions *[]string `json:"permissions,omitempty"`
	Validity    *string   `json:"validity,omitempty"`
	Credentials *bool     `json:"credentials,omitempty"`
	Review      *bool     `json:"review,omitempty"`
}

// Version is a document with where it comes from.
type Version struct {
	Number   int64
	Document Document
	At       time.Time
	By       string
	Note     string
	Restores int64 // the version that was rolled back to; 0 if this is none
}

// ParseDocument reads a document as strictly as the API reads what it is sent. What
// it returns is not yet known to be right: Compile tells.
func ParseDocument(text []byte) (Document, error) {
	var d Document
	if len(text) > MaxDocumentBytes {
		return d, fault.TooLarge.New("the policy is longer than %d bytes", MaxDocumentBytes)
	}
	return d, web.DecodeJSON(text, &d)
}

// Text is the document as it is kept: the same for the same rules and tests.
func (d Document) Text() ([]byte, error) {
	if d.Rules == nil {
		d.Rules = []Rule{}
	}
	text, err := json.Marshal(d)
	if err == nil && len(text) > MaxDocumentBytes {
		return nil, fault.TooLarge.New("the policy is longer than %d bytes", MaxDocumentBytes)
	}
	return text, err
}

// Digest names the text of a document.
func Digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// wrongs gathers what is wrong with a document.
type wrongs []fault.Field

// most bounds how many wrong parts one answer lists.
const most = 20

func (w *wrongs) add(pointer, format string, args ...any) {
	if len(*w) < most {
		*w = append(*w, fault.Field{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
	}
}

// addAll adds what is wrong with a part, at its place.
func (w *wrongs) addAll(pointer string, fields []fault.Field) {
	for _, f := range fields {
		w.add(pointer+f.Pointer, "%s", f.Detail)
	}
}

func (w wrongs) err() error {
	if len(w) == 0 {
		return nil
	}
	return &fault.Error{Kind: fault.Invalid, Message: strings.TrimPrefix(w[0].Pointer, "/") + " " + w[0].Detail, Fields: w}
}

// validity reads a duration within what may be given.
func validity(text string) (time.Duration, bool) {
	if text == "" {
		return DefaultValidity, true
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= MinValidity && d <= MaxValidity
}

// parse reads what a grant gives; nil is the least.
func (g *Grant) parse() (enrollment.Grant, time.Duration, []fault.Field) {
	if g == nil {
		g = &Grant{}
	}
	out, wrong := enrollment.ParseGrant(g.Tier, g.Permissions)
	d, ok := validity(g.MaxValidity)
	if !ok {
		wrong = append(wrong, fault.Field{Pointer: "/max_validity", Detail: "must be a duration from 1m to 8784h, such as 24h"})
	}
	if _, ok := validity(g.RefreshAfter); !ok {
		wrong = append(wrong, fault.Field{Pointer: "/refresh_after", Detail: "must be a duration from 1m to 8784h, such as 168h"})
	}
	return out, d, wrong
}

// refreshAfter is the grant's RefreshAfter, which is known to be right; zero if it is
// absent.
func (g *Grant) refreshAfter() time.Duration {
	if g.RefreshAfter == "" {
		return 0
	}
	d, _ := validity(g.RefreshAfter)
	return d
}

// parseID reads a rule's id.
func parseID(s string) string {
	switch {
	case s == "":
		return "must not be empty"
	case len(s) > 64:
		return "is longer than 64 bytes"
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && (i == 0 || c != '-' && c != '_') {
			return "must be of a-z, 0-9, - and _, and begin with a letter or a digit"
		}
	}
	return ""
}

// isName reports whether s can be shown as a name.
func isName(s string) bool {
	_, err := tenant.ParseDisplayName(s)
	return err == nil
}
