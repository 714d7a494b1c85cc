package oidc

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity/tokenclaims"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Event returns the claims of a token that tells of an event (RFC 8417), such as a
// log-out. Its signature is the issuer's; nothing that it claims is judged, not even
// whom it is for. Verify takes none of these: they are nobody's identity.
func (v *verifier) Event(ctx context.Context, token string, now time.Time) (tokenclaims.Set, error) {
	h, err := readHeader(token)
	if err != nil {
		return nil, err
	}
	kind := strings.TrimPrefix(strings.ToLower(h.Type), "application/")
	if !slices.Contains([]string{"logout+jwt", "secevent+jwt", "jwt", ""}, kind) { // a type was not always asked for
		return nil, fault.Unauthenticated.New("the token is of another type")
	}
	if err := v.signable(h); err != nil {
		return nil, err
	}
	signed := &signature{v: v, header: h, now: now}
	payload, err := signed.VerifySignature(ctx, token)
	if err != nil {
		return nil, err
	}
	set, err := tokenclaims.Decode(payload)
	if err != nil {
		return nil, err
	}
	if _, ok := set["events"]; !ok {
		return nil, fault.Unauthenticated.New("the token tells of no event")
	}
	return set, nil
}
