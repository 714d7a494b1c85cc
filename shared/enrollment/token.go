package enrollment

import (
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// TokenKind is what enrollment tokens begin with.
const TokenKind token.Kind = "peat_enr_"

// How long an enrollment token may be good for, and how often.
const (
	DefaultTokenLife = 24 * time.Hour
	MaxTokenLife     = 90 * 24 * time.Hour
	MaxTokenUses     = 10_000
)

// Token lets so many nodes into one formation. Its text is not kept, only a keyed
// hash of it.
type Token struct {
	Org       tenant.OrgID
	App       tenant.AppID
	ID        string // no secret: in lists, in the audit trail, beside what it admitted
	Label     string
	Hash      []byte
	Grant     Grant // what those it admits are given
	MaxUses   int
	Uses      int
	CreatedAt time.Time
	CreatedBy string
	ExpiresAt time.Time
	UsedAt    time.Time // last; zero: not yet
	RevokedAt time.Time // zero: not revoked
	Reason    string    // why it was revoked
}

// TokenRequest is what somebody asks of a new token.
type TokenRequest struct {
	Label       string
	MaxUses     *int // nil is 1
	ExpiresAt   time.Time
	Tier        string   // empty is the lowest
	Permissions []string // nil are the standard ones
}

// Token returns the token that is asked for, as of now, or all that is wrong with
// what is asked.
func (r TokenRequest) Token(now time.Time) (Token, error) {
	grant, wrong := ParseGrant(r.Tier, r.Permissions)
	bad := func(pointer, format string, args ...any) {
		wrong = append(wrong, fault.Field{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
	}
	if _, err := tenant.ParseLabel(r.Label); err != nil {
		wrong = append(wrong, fault.Of(err).Fields...)
	}
	t := Token{Label: r.Label, Grant: grant, MaxUses: 1, CreatedAt: now, ExpiresAt: r.ExpiresAt}
	if r.MaxUses != nil {
		t.MaxUses = *r.MaxUses
	}
	if t.MaxUses < 1 || t.MaxUses > MaxTokenUses {
		bad("/max_uses", "must be between 1 and %d", MaxTokenUses)
	}
	if t.ExpiresAt.IsZero() {
		t.ExpiresAt = now.Add(DefaultTokenLife)
	}
	if !t.ExpiresAt.After(now) || t.ExpiresAt.Sub(now) > MaxTokenLife {
		bad("/expires_at", "must be in the future, and no more than %d days away", int(MaxTokenLife.Hours()/24))
	}
	// Who gets hold of such a token makes nodes of their own; more than one would go
	// unnoticed.
	if grant.Permissions&(cert.Enroll|cert.Admin) != 0 && t.MaxUses > 1 {
		bad("/permissions", "enroll and admin are for a token of one use only")
	}
	if len(wrong) > 0 {
		return Token{}, &fault.Error{Kind: fault.Invalid, Message: wrong[0].Pointer[1:] + " " + wrong[0].Detail, Fields: wrong}
	}
	return t, nil
}

// The states of a token. Only an active one admits.
const (
	Active       = "active"
	UsedUp       = "used_up"
	Expired      = "expired"
	TokenRevoked = "revoked"
)

// State is what a token is good for now.
func (t Token) State(now time.Time) string {
	switch {
	case !t.RevokedAt.IsZero():
		return TokenRevoked
	case !t.ExpiresAt.After(now):
		return Expired
	case t.Uses >= t.MaxUses:
		return UsedUp
	}
	return Active
}

// said is why a token in a state admits nobody.
var said = map[string]string{UsedUp: "is used up", Expired: "has expired", TokenRevoked: "was revoked"}

// Refusal is the error of a token that admits nobody now, or nil. It tells why:
// whoever sees it has shown the token.
func (t Token) Refusal(now time.Time) error {
	if why, ok := said[t.State(now)]; ok {
		return fault.Unauthenticated.New("the enrollment token %s", why)
	}
	return nil
}

// Rule names the token as what admitted a node, without its secret.
func (t Token) Rule() string { return "token:" + t.ID }
