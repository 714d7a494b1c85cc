package federation

import (
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// policyRequest is a policy that is to be saved, or checked.
type policyRequest struct {
	Rules []policy.Rule `json:"rules"`
	Tests []policy.Test `json:"tests,omitempty"`
	Note  string        `json:"note,omitempty"`
}

// document is what is to be saved. A policy without rules denies everybody, so that it
// must be said and not forgotten.
func (p policyRequest) document() (policy.Document, error) {
	if p.Rules == nil {
		return policy.Document{}, wrong("/rules", "must be given")
	}
	return policy.Document{Rules: p.Rules, Tests: p.Tests}, nil
}

type rollbackRequest struct {
	Version int64  `json:"version"`
	Note    string `json:"note,omitempty"`
}

type policyWire struct {
	versionWire
	Rules []policy.Rule `json:"rules"`
	Tests []policy.Test `json:"tests"`
}

// versionWire is a version without its text.
type versionWire struct {
	Version   int64      `json:"version"` // 0: there is no policy yet
	CreatedAt *time.Time `json:"created_at"`
	CreatedBy string     `json:"created_by"`
	Note      string     `json:"note,omitempty"`
	Restores  int64      `json:"restores,omitempty"`
}

func wireVersion(v policy.Version) versionWire {
	return versionWire{v.Number, optional(v.At), v.By, v.Note, v.Restores}
}

func wirePolicy(v policy.Version) policyWire {
	return policyWire{wireVersion(v), notNil(v.Document.Rules), notNil(v.Document.Tests)}
}

// notNil is a list as JSON has it: empty and not null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

type diffWire struct {
	From         int64            `json:"from"`
	To           int64            `json:"to"`
	Added        []policy.Rule    `json:"added"`
	Removed      []policy.Rule    `json:"removed"`
	Changed      []ruleChangeWire `json:"changed"`
	Moved        bool             `json:"moved"`
	TestsChanged bool             `json:"tests_changed"`
}

type ruleChangeWire struct {
	ID     string      `json:"id"`
	Fields []string    `json:"fields"`
	Before policy.Rule `json:"before"`
	After  policy.Rule `json:"after"`
}

func wireDiff(from, to int64, d policy.Diff) diffWire {
	return diffWire{from, to, notNil(d.Added), notNil(d.Removed), mapped(d.Changed, func(c policy.RuleChange) ruleChangeWire {
		return ruleChangeWire{c.After.ID, c.Fields, c.Before, c.After}
	}), d.Moved, d.Tests}
}

type checkWire struct {
	OK       bool          `json:"ok"`
	Problems []fault.Field `json:"problems"`
}

type evaluateRequest struct {
	Draft      *policy.Document       `json:"draft,omitempty"` // absent: the policy as it is
	Claims     *policy.WrittenClaims  `json:"claims,omitempty"`
	Token      *string                `json:"token,omitempty"`
	DecisionID *string                `json:"decision_id,omitempty"`
	Request    *policy.WrittenRequest `json:"request,omitempty"`
	At         *time.Time             `json:"at,omitempty"`
}

type evaluateWire struct {
	Decision policy.WrittenDecision  `json:"decision"`
	Claims   policy.WrittenClaims    `json:"claims"`
	Request  policy.WrittenRequest   `json:"request"`
	At       time.Time               `json:"at"`
	Recorded *policy.WrittenDecision `json:"recorded,omitempty"`
}

type replayPolicyRequest struct {
	Draft *policy.Document `json:"draft,omitempty"`
	Limit *int             `json:"limit,omitempty"`
}

type replayPolicyWire struct {
	Summary  string             `json:"summary"`
	Of       int                `json:"of"`
	Changed  int                `json:"changed"`
	Complete bool               `json:"complete"`
	Items    []replayChangeWire `json:"items"`
	Untold   []string           `json:"untold"` // decisions that hang on what is not kept of claims
}

type replayChangeWire struct {
	ID      string                 `json:"decision_id"`
	At      time.Time              `json:"at"`
	App     tenant.AppID           `json:"app_id"`
	NodeID  string                 `json:"node_id"`
	Subject string                 `json:"subject"`
	What    []string               `json:"what"`
	Before  policy.WrittenDecision `json:"before"`
	After   policy.WrittenDecision `json:"after"`
}

func wireReplay(r policy.Replay) replayPolicyWire {
	out := replayPolicyWire{Of: r.Decisions, Changed: len(r.Changes), Complete: r.Complete, Untold: notNil(r.Untold), Items: mapped(r.Changes, func(c policy.Change) replayChangeWire {
		return replayChangeWire{
			c.Record.ID, c.Record.At, c.Record.Request.Key.App, c.Record.Request.NodeID, c.Record.Claims.Subject, c.What,
			policy.WriteDecision(c.Record.Decision), policy.WriteDecision(c.After),
		}
	})}
	out.Summary = fmt.Sprintf("%d of %d would change", out.Changed, out.Of)
	if n := len(out.Untold); n > 0 {
		out.Summary += fmt.Sprintf("; of %d it cannot be told", n)
	}
	return out
}

type decisionWire struct {
	ID       string                 `json:"decision_id"`
	At       time.Time              `json:"at"`
	Claims   policy.WrittenClaims   `json:"claims"`
	Request  policy.WrittenRequest  `json:"request"`
	Decision policy.WrittenDecision `json:"decision"`
}

func wireDecision(d policy.Record) decisionWire {
	return decisionWire{d.ID, d.At, policy.WriteClaims(d.Claims), policy.WriteRequest(d.Request), policy.WriteDecision(d.Decision)}
}
