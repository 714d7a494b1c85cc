// Package enroll gives nodes their certificates: an administrator has one issued, a
// node gets its own by a token and renews it, and what is revoked stands in a list
// that anybody can check. The formation's authority signs, and can be changed for
// another.
//
//	enroll.go       doors
//	issue.go        an administrator's order, and how any certificate is made
//	device.go       a node enrolls itself
//	challenge.go    what its proof of possession answers
//	identity.go     a proof of who it is, and what the organization's policy makes of it
//	message.go      what it says and is told, in JSON or in the bytes of peat-mesh
//	limits.go       how often anybody may try
//	denied.go       what is written down of those who are not let in
//	queue.go        nodes that wait for an administrator
//	approve.go      what the administrator sees and decides
//	poll.go         what a node is told that asks again
//	credentials.go  what members of a formation share
//	together.go     orders that come at the same time are kept at the same time
//	admission.go    whether a key may have a certificate, decided in the transaction
//	proof.go        that a key is the node's own
//	renew.go        the same, with the old certificate as the reason
//	recheck.go      whether the one who vouched for the node still does
//	offboard.go     the end of somebody's time with the organization
//	revoke.go       the end of a key's certificates
//	revocations.go  the signed list of what was revoked
//	ledger.go       lists of certificates, and one with its history
//	authority.go    prepare, activate, retire and taint an authority
//	wire.go         the JSON of all of it
package enroll

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/gather"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// keys is the part of the keyring that is needed here.
type keys interface {
	Seal(ctx context.Context, rec envelope.Record, plaintext []byte) ([]byte, error)
	Sign(ctx context.Context, root keyring.Root, use func(ed25519.PrivateKey) error) error
	Credentials(ctx context.Context, key tenant.Key, sealed []byte) (genesis.Credentials, error)
}

// Deps is everything this function needs, and nothing it does not.
type Deps struct {
	Store  *store.Store
	Keys   keys
	Tokens token.Key // under which tokens are hashed
	Random io.Reader // of authorities
	Notify func()    // the outbox has something in it
	Log    *slog.Logger
	Now    func() time.Time

	Identities identities // nil: nobody is let in by a proof of identity
	Rules      rules      // by default those in the store
	// Address is whom a request comes from, and Chain the client certificate that it
	// has shown; by default what the connection says.
	Address func(*http.Request) netip.Addr
	Chain   func(*http.Request) ([]*x509.Certificate, error)
	Rates   Rates
	Grace   time.Duration // how long renewals go on while a provider that must be asked again does not answer
}

// Function is the function.
type Function struct {
	Deps
	denials denials
	limits  limits
	outages outages
	signers gather.Group[tenant.Key, struct{}, store.Signer]
	orders  orders
}

// New returns the function, ready.
func New(d Deps) *Function {
	if d.Address == nil {
		d.Address = connected
	}
	if d.Chain == nil {
		d.Chain = shownChain
	}
	if d.Rules == nil {
		d.Rules = &stored{store: d.Store}
	}
	f := &Function{Deps: d, limits: newLimits(d.Rates)}
	f.signers.Max, f.signers.Work = math.MaxInt, f.findSigner
	f.orders.Max, f.orders.Linger, f.orders.Work = maxTogether, patience, f.keepTogether
	return f
}

// connected is the address at the other end of a request's connection.
func connected(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// shownChain is what a client has shown in a connection that ends here.
func shownChain(r *http.Request) ([]*x509.Certificate, error) {
	if r.TLS == nil {
		return nil, nil
	}
	return r.TLS.PeerCertificates, nil
}

// Routes are the doors.
func (f *Function) Routes() []web.Route {
	return []web.Route{
		{Pattern: "POST /orgs/{org}/formations/{app}/certificates", Need: web.OrgAdmin, Handle: f.postCertificate},
		{Pattern: "GET /orgs/{org}/formations/{app}/certificates", Need: web.Viewer, Handle: f.listCertificates},
		{Pattern: "GET /orgs/{org}/formations/{app}/certificates/{serial}", Need: web.Viewer, Handle: f.getCertificate},
		{Pattern: "POST /orgs/{org}/formations/{app}/certificates/{serial}/revoke", Need: web.OrgAdmin, Handle: f.postRevoke},
		// A token or a proof of identity lets the node in, and is in the request.
		{Pattern: "POST /orgs/{org}/formations/{app}/enroll", Need: web.Anyone, Handle: f.postEnroll},
		// It costs nothing but a hash, and is good for nothing by itself.
		{Pattern: "POST /orgs/{org}/formations/{app}/enroll/challenge", Need: web.Anyone, Handle: f.postChallenge},
		// The secret that the node was given is in the request.
		{Pattern: "GET /orgs/{org}/formations/{app}/enroll/{enrollment}", Need: web.Anyone, Handle: f.getPoll},
		{Pattern: "GET /orgs/{org}/formations/{app}/enrollments", Need: web.Viewer, Handle: f.listApplications},
		{Pattern: "GET /orgs/{org}/formations/{app}/enrollments/{enrollment}", Need: web.Viewer, Handle: f.getApplication},
		{Pattern: "POST /orgs/{org}/formations/{app}/enrollments/{enrollment}/approve", Need: web.OrgAdmin, Handle: f.postApprove},
		{Pattern: "POST /orgs/{org}/formations/{app}/enrollments/{enrollment}/deny", Need: web.OrgAdmin, Handle: f.postDeny},
		{Pattern: "POST /orgs/{org}/identity/offboard", Need: web.OrgAdmin, Handle: f.postOffboard},
		{Pattern: "POST /orgs/{org}/identity/reinstate", Need: web.OrgAdmin, Handle: f.postReinstate},
		{Pattern: "GET /orgs/{org}/identity/offboarded", Need: web.Viewer, Handle: f.listOffboarded},
		// The proof is in the request: a signature by the key that the certificate is of.
		{Pattern: "POST /orgs/{org}/formations/{app}/certificates/{serial}/renew", Need: web.Anyone, Handle: f.postRenew},
		// Whoever has to check certificates needs it, and it says nothing of anybody else.
		{Pattern: "GET /orgs/{org}/formations/{app}/revocations", Need: web.Anyone, Handle: f.getRevocations},

		{Pattern: "GET /orgs/{org}/formations/{app}/authority", Need: web.Viewer, Handle: f.getAuthority},
		{Pattern: "POST /orgs/{org}/formations/{app}/authority/prepare", Need: web.OrgAdmin, Handle: f.postPrepare},
		{Pattern: "POST /orgs/{org}/formations/{app}/authority/activate", Need: web.OrgAdmin, Handle: f.postActivate},
		{Pattern: "POST /orgs/{org}/formations/{app}/authority/retire", Need: web.OrgAdmin, Handle: f.postRetire},
		{Pattern: "POST /orgs/{org}/formations/{app}/authority/taint", Need: web.OrgAdmin, Handle: f.postTaint},
	}
}

// Events is empty: what expires does so by the clock, and lists are made when they
// are asked for.
func (f *Function) Events() []bus.Subscription { return nil }

// act is who does something, and in which request.
type act struct{ actor, request string }

func actOf(r *http.Request) act {
	return act{access.FromContext(r.Context()).Name, web.RequestID(r.Context())}
}

// audit begins the entry of an act.
func (f *Function) audit(a act, key tenant.Key, action, target string, detail map[string]any) store.Audit {
	detail["app_id"] = key.App
	return store.Audit{Org: key.Org, At: f.Now(), Actor: a.actor, Action: action, Target: target, RequestID: a.request, Detail: detail}
}

// address is whom a request comes from.
func (f *Function) address(r *http.Request) netip.Addr { return f.Address(r) }

// now is the time as a certificate keeps it.
func (f *Function) now() time.Time { return f.Now().UTC().Truncate(time.Millisecond) }

// serialOf reads a serial from the path.
func serialOf(r *http.Request) (string, error) {
	return web.Path(r, "serial", func(s string) (string, error) {
		if len(s) != serialLength || !isLowerHex(s) {
			return "", fault.Invalid.New("not a serial")
		}
		return s, nil
	})
}

// serialLength is that of a SHA-256 in hexadecimal.
const serialLength = 64

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
