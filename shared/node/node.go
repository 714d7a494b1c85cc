// Package node is the other side of an enrollment: the node's. It keeps a key and
// what a gateway gives for it in a folder, shows who it is, answers that the key is
// its own, waits where an administrator decides, and renews in time.
//
//	node.go    one node, and its way to a certificate
//	showing.go what it shows of itself
//	waiting.go what it does while somebody decides
//	watch.go   how it keeps a certificate
//	client.go  what is asked of the gateway, and what is believed of its answers
//	folder.go  what is kept, and how it outlives a power cut
//
// What a gateway decides, and why, is package functions/enroll.
package node

import (
	"cmp"
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
	// MeshID and Authorities are what is believed in. What is left out is as the gateway
	// says, and the connection to it is what counts.
	MeshID      string
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
	if c == nil || n.takes(*c) != nil {
		return n.enter(ctx, nil)
	}
	if n.Now().Before(c.RenewAfter) {
		return *c, nil
	}
	next, err := n.renew(ctx, *c, nil)
	if err == nil || !final(err) || n.Show == nil {
		return next, err
	}
	// It may be that somebody has to vouch for the node again.
	shown, showErr := n.Show.Show(ctx, "")
	if showErr != nil {
		return Certificate{}, showErr
	}
	if shown.Identity != nil {
		return n.renew(ctx, *c, shown.Identity)
	}
	n.say("the certificate is not renewed: %v; enrolling anew", err)
	next, err = n.enter(ctx, &shown)
	if p, ok := errors.AsType[*Problem](err); ok && p.Status == http.StatusConflict {
		// What conflicts with a key whose certificate is refused will not pass: it was revoked.
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return next, err
}

// enter is let in: as one who applied already, or with what there is to show, which
// may be at hand.
func (n *Node) enter(ctx context.Context, shown *Shown) (Certificate, error) {
	a, err := n.Folder.Application()
	if err != nil {
		return Certificate{}, err
	}
	if a == nil {
		c, applied, err := n.enroll(ctx, shown)
		if err != nil || applied == nil {
			return c, err
		}
		a = applied
	}
	return n.await(ctx, *a)
}

// enroll asks to be let in, and takes what it is given: a certificate, or that it is
// to wait for one.
func (n *Node) enroll(ctx context.Context, shown *Shown) (c Certificate, applied *Application, err error) {
	if n.Show == nil {
		return c, nil, errors.New("there is no certificate that is good, and nothing to get one with")
	}
	key, err := n.Folder.NodeKey()
	if err != nil {
		return c, nil, err
	}
	challenge, err := n.Client.Challenge(ctx)
	if err != nil {
		return c, nil, err
	}
	if n.MeshID != "" && challenge.MeshID != n.MeshID {
		return c, nil, fmt.Errorf("%w: the formation has the mesh id %q, not %q", ErrRefused, challenge.MeshID, n.MeshID)
	}
	if shown == nil {
		now, err := n.Show.Show(ctx, challenge.Nonce)
		if err != nil {
			return c, nil, err
		}
		shown = &now
	}
	p := n.possession(authority.ForEnroll, challenge.MeshID, key)
	p.Nonce = challenge.Nonce
	c, applied, err = n.Client.Enroll(ctx, enrollRequest{
		Token: shown.Token.Reveal(), Identity: shown.Identity.wire(), Challenge: challenge.Nonce,
		PublicKey: hexOf(p.Subject), NodeID: n.ID, Proof: prove(p, key),
	})
	switch {
	case err != nil:
		return c, nil, err
	case applied != nil:
		return c, applied, n.Folder.Apply(*applied)
	}
	return c, nil, n.take(c)
}

// renew asks for the certificate that comes after c.
func (n *Node) renew(ctx context.Context, c Certificate, shown *Identity) (Certificate, error) {
	key, err := n.Folder.NodeKey()
	if err != nil {
		return Certificate{}, err
	}
	p := n.possession(authority.ForRenewal, c.MeshID, key)
	p.Serial = c.Serial
	next, err := n.Client.Renew(ctx, c.Serial, renewRequest{prove(p, key), shown.wire()})
	if err != nil {
		return Certificate{}, err
	}
	return next, n.take(next)
}

func (n *Node) possession(purpose authority.Purpose, meshID string, key ed25519.PrivateKey) authority.Possession {
	return authority.Possession{
		Purpose: purpose, Key: n.Key, MeshID: meshID, NodeID: n.ID, Subject: key.Public().(ed25519.PublicKey), At: n.Now(),
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
	trust, err := cert.NewTrust(cert.Policy{MeshID: cmp.Or(n.MeshID, c.MeshID), Authorities: authorities, Depth: 1, Limit: 1})
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
