// Package node is the other side of an enrollment: the node's. It keeps a key and
// what a gateway gives for it in a folder, shows who it is, answers that the key is
// its own, waits where an administrator decides, and renews in time.
//
//	node.go    one node, and its way to a certificate
//	showing.go what it shows of itself
//	watch.go   and how it keeps one
//	client.go  what is asked of the gateway, and what is believed of its answers
//	folder.go  what is kept, and how it outlives a power cut
//
// What a gateway decides, and why, is package functions/enroll.
package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Node is one node of a formation.
type Node struct {
	Client *Client
	Folder *Folder
	Key    tenant.Key // the formation
	ID     string
	MeshID string
	// Authorities are those whose certificates are taken. If there are none, the
	// gateway says which is the formation's, and the connection to it is what counts.
	Authorities []ed25519.PublicKey
	Show        Showing
	Random      func() float64 // from 0 to 1, for waiting
	Now         func() time.Time
	Wait        func(context.Context, time.Duration) error
	Say         io.Writer // what happens, for people
}

// ErrRefused is the gateway's no, which asking again does not change.
var ErrRefused = errors.New("the gateway refuses")

// Ready makes sure that there is a certificate that is good now: the one in the
// folder, renewed if it is time, or a new one. Where an administrator decides it
// waits for that.
func (n *Node) Ready(ctx context.Context) (Certificate, error) {
	c, err := n.Folder.Certificate()
	if err != nil {
		return Certificate{}, err
	}
	if c != nil && n.takes(*c) == nil {
		if n.Now().Before(c.RenewAfter) {
			return *c, nil
		}
		renewed, err := n.renew(ctx, *c)
		if err == nil || !final(err) || n.Show == nil {
			return renewed, err
		}
		n.say("the certificate is not renewed: %v; enrolling anew", err)
		next, err := n.enroll(ctx)
		if p, ok := errors.AsType[*Problem](err); ok && p.Status == http.StatusConflict {
			// What conflicts with a key whose certificate is refused will not pass: it was revoked.
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return next, err
	}
	return n.enroll(ctx)
}

// enroll asks to be let in, and takes what it is given.
func (n *Node) enroll(ctx context.Context) (Certificate, error) {
	if n.Show == nil {
		return Certificate{}, errors.New("there is no certificate that is good, and nothing to get one with")
	}
	key, err := n.Folder.NodeKey()
	if err != nil {
		return Certificate{}, err
	}
	shown, err := n.Show.Show(ctx)
	if err != nil {
		return Certificate{}, err
	}
	p := n.possession(authority.ForEnroll, key)
	c, err := n.Client.Enroll(ctx, enrollRequest{
		Token: shown.Token.Reveal(), PublicKey: hexOf(p.Subject), NodeID: n.ID, Proof: prove(p, key),
	})
	if err != nil {
		return Certificate{}, err
	}
	return c, n.take(c)
}

// renew asks for the certificate that comes after c.
func (n *Node) renew(ctx context.Context, c Certificate) (Certificate, error) {
	key, err := n.Folder.NodeKey()
	if err != nil {
		return Certificate{}, err
	}
	p := n.possession(authority.ForRenewal, key)
	p.Serial = c.Serial
	next, err := n.Client.Renew(ctx, c.Serial, prove(p, key))
	if err != nil {
		return Certificate{}, err
	}
	return next, n.take(next)
}

func (n *Node) possession(purpose authority.Purpose, key ed25519.PrivateKey) authority.Possession {
	return authority.Possession{
		Purpose: purpose, Key: n.Key, MeshID: n.MeshID, NodeID: n.ID, Subject: key.Public().(ed25519.PublicKey), At: n.Now(),
	}
}

// take keeps what the gateway gave, if it is what was asked for.
func (n *Node) take(c Certificate) error {
	if err := n.takes(c); err != nil {
		return fmt.Errorf("the gateway gave something else than was asked for: %w", err)
	}
	return n.Folder.Keep(c)
}

// takes returns why a certificate is not this node's, or not good now.
func (n *Node) takes(c Certificate) error {
	key, err := n.Folder.NodeKey()
	if err != nil {
		return err
	}
	decoded, err := cert.DecodeExact(c.Certificate)
	if err != nil {
		return err
	}
	authorities := n.Authorities
	if len(authorities) == 0 {
		authorities = []ed25519.PublicKey{c.authority()}
	}
	trust, err := cert.NewTrust(cert.Policy{MeshID: n.MeshID, Authorities: authorities, Depth: 1, Limit: 1})
	if err != nil {
		return err
	}
	if err := trust.Add(n.Now(), decoded); err != nil {
		return err
	}
	switch {
	case !key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(decoded.Subject[:])):
		return refusal.Certificate.New("certificate of another key")
	case decoded.NodeID != n.ID:
		return refusal.Certificate.New("certificate of node %q", decoded.NodeID)
	}
	return nil
}

func (n *Node) say(format string, args ...any) {
	fmt.Fprintf(n.Say, format+"\n", args...)
}
