package policy

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// MaxDecisions is about how many decisions are kept of an organization.
const MaxDecisions = 1000

// maxKeptText is how long a text of an attribute may be that is kept.
const maxKeptText = 256

// Record is a decision as it is kept: enough to ask again.
type Record struct {
	ID       string // in the order of time; made when it is kept
	At       time.Time
	Claims   identity.Claims // as far as they are kept, see Redact
	Request  Request
	Decision Decision
}

// withheld takes the place of an attribute's value that is not kept. A rule that
// looks at it cannot be asked again.
const withheld = "$withheld"

// isWithheld reports whether v takes the place of what is not kept.
func isWithheld(v any) bool {
	m, ok := v.(map[string]any)
	if !ok || len(m) != 1 {
		return false
	}
	_, ok = m[withheld]
	return ok
}

// holdsWithheld reports whether v or something in it is not kept.
func holdsWithheld(v any) bool {
	if m, ok := v.(map[string]any); ok && !isWithheld(v) {
		for _, e := range m {
			if holdsWithheld(e) {
				return true
			}
		}
	}
	return isWithheld(v)
}

// Redact returns claims as they may be kept: without what names the proof and its
// session, and without attributes that hold a secret, by their name, or a long text.
func Redact(c identity.Claims) identity.Claims {
	c.ID, c.Session = "", ""
	if c.Attributes != nil {
		c.Attributes, _ = redact("", c.Attributes).(map[string]any)
	}
	return c
}

func redact(name string, v any) any {
	if audit.NamesSecret(name) {
		return map[string]any{withheld: true}
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = redact(k, e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = redact(name, e)
			if holdsWithheld(out[i]) {
				// What is compared with a list is compared with all of it.
				return map[string]any{withheld: true}
			}
		}
		return out
	case string:
		if len(v) > maxKeptText {
			return map[string]any{withheld: true}
		}
	}
	return v
}

// WrittenDecision is a decision as it is written.
type WrittenDecision struct {
	Allowed          bool            `json:"allowed"`
	Rule             string          `json:"rule,omitempty"`
	Version          int64           `json:"version"`
	FormationVersion int64           `json:"formation_version,omitempty"`
	Tier             string          `json:"tier,omitempty"`
	Permissions      []string        `json:"permissions,omitzero"`
	Validity         string          `json:"validity,omitempty"`
	Credentials      bool            `json:"credentials,omitempty"`
	Review           bool            `json:"review,omitempty"`
	Reasons          []WrittenReason `json:"reasons"`
}

// WrittenReason is a reason as it is written.
type WrittenReason struct {
	Rule    string `json:"rule"`
	Matched bool   `json:"matched"`
	Detail  string `json:"detail,omitempty"`
	Parts   []Part `json:"parts,omitempty"`
}

// WriteDecision writes a decision.
func WriteDecision(d Decision) WrittenDecision {
	w := WrittenDecision{Allowed: d.Allowed, Rule: d.Rule, Version: d.Version, FormationVersion: d.FormationVersion, Reasons: []WrittenReason{}}
	if d.Allowed {
		w.Tier, w.Permissions = enrollment.TierName(d.Grant.Tier), enrollment.PermissionNames(d.Grant.Permissions)
		w.Validity, w.Credentials, w.Review = d.Validity.String(), d.Credentials, d.Review
	}
	for _, r := range d.Reasons {
		w.Reasons = append(w.Reasons, WrittenReason(r))
	}
	return w
}

// Read returns the decision that was written.
func (w WrittenDecision) Read() (Decision, error) {
	d := Decision{Allowed: w.Allowed, Rule: w.Rule, Version: w.Version, FormationVersion: w.FormationVersion}
	for _, r := range w.Reasons {
		d.Reasons = append(d.Reasons, Reason(r))
	}
	if !w.Allowed {
		return d, nil
	}
	grant, wrong := enrollment.ParseGrant(w.Tier, w.Permissions)
	if len(wrong) > 0 {
		return d, fmt.Errorf("policy: a decision whose %s %s", wrong[0].Pointer, wrong[0].Detail)
	}
	v, err := time.ParseDuration(w.Validity)
	if err != nil {
		return d, fmt.Errorf("policy: a decision whose validity is %w", err)
	}
	d.Grant, d.Validity, d.Credentials, d.Review = grant, v, w.Credentials, w.Review
	return d, nil
}

// Text writes what is kept of a record beside its id and time: claims, request and
// decision, each as JSON.
func (r Record) Text() (claims, request, decision []byte, err error) {
	if claims, err = json.Marshal(WriteClaims(r.Claims)); err != nil {
		return nil, nil, nil, fmt.Errorf("policy: claims: %w", err)
	}
	if request, err = json.Marshal(WriteRequest(r.Request)); err != nil {
		return nil, nil, nil, fmt.Errorf("policy: request: %w", err)
	}
	// The parts hold values of claims; the details hold none.
	w := WriteDecision(r.Decision)
	for i := range w.Reasons {
		w.Reasons[i].Parts = nil
	}
	if decision, err = json.Marshal(w); err != nil {
		return nil, nil, nil, fmt.Errorf("policy: decision: %w", err)
	}
	return claims, request, decision, nil
}

// ReadRecord reads what Text wrote of one of an organization's records.
func ReadRecord(org tenant.OrgID, claims, request, decision []byte) (Record, error) {
	var r Record
	var c WrittenClaims
	var q WrittenRequest
	var d WrittenDecision
	for _, part := range []struct {
		text []byte
		v    any
	}{{claims, &c}, {request, &q}, {decision, &d}} {
		if err := json.Unmarshal(part.text, part.v); err != nil {
			return r, fmt.Errorf("policy: a kept decision: %w", err)
		}
	}
	var wrong wrongs
	var bad []fault.Field
	r.Claims, bad = c.Read()
	wrong.addAll("/claims", bad)
	r.Request, bad = q.Read(org)
	wrong.addAll("/request", bad)
	if err := wrong.err(); err != nil {
		return r, fmt.Errorf("policy: a kept decision: %w", err)
	}
	var err error
	r.Decision, err = d.Read()
	return r, err
}
