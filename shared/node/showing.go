package node

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
)

// Shown is what a node shows of itself: one of the two.
type Shown struct {
	Token    env.Secret // an enrollment token
	Identity *Identity
}

// Identity is who somebody else says that the node is: one of Token, SAML and
// ClientCertificate.
type Identity struct {
	Provider          string     // the provider's id at the gateway; empty: the proof tells itself
	Token             env.Secret // of an OpenID provider
	SAML              []byte     // a response, as XML
	ClientCertificate bool       // that of the connection
}

// Showing gets what is shown each time that it is asked for: what was good an hour
// ago may have been replaced. It is told what the proof will answer; empty: nothing.
type Showing interface {
	Show(ctx context.Context, challenge string) (Shown, error)
}

// ShowFunc is a function that does so.
type ShowFunc func(ctx context.Context, challenge string) (Shown, error)

// Show calls it.
func (f ShowFunc) Show(ctx context.Context, challenge string) (Shown, error) {
	return f(ctx, challenge)
}

// ParseSAML reads a SAML response as it is found in files: the XML, or what a browser
// sends of it.
func ParseSAML(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "<") {
		return []byte(text), nil
	}
	xml, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil || !strings.HasPrefix(string(xml), "<") {
		return nil, errors.New("this is no SAML response, neither XML nor in base64")
	}
	return xml, nil
}

// identityWire is an Identity as the gateway reads it.
type identityWire struct {
	Provider          string `json:"provider_id,omitempty"`
	Token             string `json:"token,omitempty"`
	SAML              string `json:"saml,omitempty"`
	ClientCertificate bool   `json:"client_certificate,omitempty"`
}

func (i *Identity) wire() *identityWire {
	if i == nil {
		return nil
	}
	return &identityWire{i.Provider, i.Token.Reveal(), base64.StdEncoding.EncodeToString(i.SAML), i.ClientCertificate}
}
