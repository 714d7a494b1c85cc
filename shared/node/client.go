package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Limits of an answer.
const (
	maxAnswer = 256 << 10
	patience  = 30 * time.Second
)

// Client asks a gateway about one formation.
type Client struct {
	base string // of the formation
	http *http.Client
}

// NewClient returns a client for a formation. The address is https, or on this
// machine: who is between us and the gateway could take what we show.
func NewClient(gateway string, key tenant.Key, transport http.RoundTripper) (*Client, error) {
	u, err := url.Parse(gateway)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, errors.New("must be a URL with a host")
	case u.Scheme != "https" && !(u.Scheme == "http" && onThisMachine(u.Hostname())):
		return nil, errors.New("must begin with https://")
	case u.User != nil || strings.ContainsAny(gateway, "?#"):
		return nil, errors.New("must be without user, query and fragment")
	}
	return &Client{
		base: u.JoinPath("orgs", string(key.Org), "formations", string(key.App)).String(),
		http: &http.Client{
			Transport: transport, Timeout: patience,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func onThisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// proof is a signature that shows that a key is the node's own.
type proof struct {
	TimestampMS int64  `json:"timestamp_ms"`
	Signature   string `json:"signature"`
}

func prove(p authority.Possession, key ed25519.PrivateKey) proof {
	return proof{p.At.UnixMilli(), hexOf(ed25519.Sign(key, p.Message()))}
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

type enrollRequest struct {
	Token     string        `json:"token,omitempty"`
	Identity  *identityWire `json:"identity,omitempty"`
	Challenge string        `json:"challenge,omitempty"`
	PublicKey string        `json:"public_key"`
	NodeID    string        `json:"node_id"`
	Proof     proof         `json:"proof"`
}

type renewRequest struct {
	Proof    proof         `json:"proof"`
	Identity *identityWire `json:"identity,omitempty"`
}

// Challenge is what a node's proof must answer.
type Challenge struct {
	Nonce     string    `json:"nonce"`
	ExpiresAt time.Time `json:"expires_at"`
	MeshID    string    `json:"mesh_id"`
}

// Certificate is what a gateway gives, as far as a node needs to know.
type Certificate struct {
	Serial      string    `json:"serial"`
	NodeID      string    `json:"node_id"`
	MeshID      string    `json:"mesh_id"`
	Tier        string    `json:"tier"`
	IssuedAt    time.Time `json:"issued_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	RenewAfter  time.Time `json:"renew_after"`
	Authority   string    `json:"authority_public_key"`
	Certificate []byte    `json:"certificate"` // the bytes that peers read
	// Credentials are what the members of the formation share, where a policy lets the
	// node have them. They come once, and have a file of their own.
	Credentials *Credentials `json:"credentials,omitempty"`
}

// Credentials hold the formation's secret.
type Credentials struct {
	Encoded []byte `json:"encoded"` // as peat-mesh has them
}

func (c Certificate) authority() ed25519.PublicKey {
	key, err := hex.DecodeString(c.Authority)
	if err != nil {
		return nil // which is nobody's
	}
	return key
}

// Challenge asks for one.
func (c *Client) Challenge(ctx context.Context) (Challenge, error) {
	var out Challenge
	_, err := c.call(ctx, http.MethodPost, "/enroll/challenge", "", nil, &out)
	return out, err
}

// Enroll asks to be let in: a certificate, or an application for one.
func (c *Client) Enroll(ctx context.Context, in enrollRequest) (Certificate, *Application, error) {
	var given json.RawMessage
	answer, err := c.call(ctx, http.MethodPost, "/enroll", "", in, &given)
	if err != nil {
		return Certificate{}, nil, err
	}
	if answer.StatusCode != http.StatusAccepted {
		var out Certificate
		if err := json.Unmarshal(given, &out); err != nil {
			return Certificate{}, nil, unreadable(err)
		}
		return out, nil, nil
	}
	out := Application{after: after(answer)}
	if err := json.Unmarshal(given, &out); err != nil {
		return Certificate{}, nil, unreadable(err)
	}
	return Certificate{}, &out, nil
}

// Poll asks what became of an application, and when to ask again.
func (c *Client) Poll(ctx context.Context, a Application) (answered, time.Duration, error) {
	var out answered
	answer, err := c.call(ctx, http.MethodGet, "/enroll/"+url.PathEscape(a.ID), a.Secret, nil, &out)
	if err != nil {
		return answered{}, 0, err
	}
	return out, after(answer), nil
}

// Renew asks for the certificate that comes after that of a serial.
func (c *Client) Renew(ctx context.Context, serial string, in renewRequest) (Certificate, error) {
	var out Certificate
	_, err := c.call(ctx, http.MethodPost, "/certificates/"+url.PathEscape(serial)+"/renew", "", in, &out)
	return out, err
}

// call makes a request and reads the answer into out.
func (c *Client) call(ctx context.Context, method, path, bearer string, in, out any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", plain(err))
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the gateway's answer: %w", err)
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("the gateway's answer is longer than %d bytes", maxAnswer)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, problemOf(resp, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return nil, unreadable(err)
	}
	return resp, nil
}

func unreadable(err error) error { return fmt.Errorf("the gateway's answer cannot be read: %w", err) }

// after is when the gateway wants to be asked again; 0: it does not say.
func after(resp *http.Response) time.Duration {
	seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// plain takes the address out of an error: it is known, and long.
func plain(err error) error {
	if inner, ok := errors.AsType[*url.Error](err); ok {
		return inner.Err
	}
	return err
}

// Problem is the gateway's no.
type Problem struct {
	Status    int
	Detail    string
	RequestID string
	After     time.Duration // when to ask again; 0: it does not say
}

func (p *Problem) Error() string {
	out := fmt.Sprintf("status %d", p.Status)
	if p.Detail != "" {
		// Quoted: whoever is at the other end must not write on the terminal.
		out += fmt.Sprintf(": %q", p.Detail)
	}
	if p.RequestID != "" {
		out += fmt.Sprintf(" (request %q)", p.RequestID)
	}
	return out
}

// passing are the answers that may be others later, with nothing changed on our side:
// a formation is resumed, a name becomes free, a limit is an hour's.
var passing = []int{http.StatusRequestTimeout, http.StatusConflict, http.StatusLocked, http.StatusTooManyRequests}

// Is tells that this no will stay one.
func (p *Problem) Is(target error) bool {
	return target == ErrRefused && p.Status >= 300 && p.Status < 500 && !slices.Contains(passing, p.Status)
}

func problemOf(resp *http.Response, body []byte) error {
	p := &Problem{Status: resp.StatusCode, After: after(resp)}
	// Whoever is between us and the gateway may answer with a page.
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || media != "application/problem+json" {
		return p
	}
	var in struct {
		Detail    string `json:"detail"`
		RequestID string `json:"request_id"`
	}
	if json.Unmarshal(body, &in) == nil {
		p.Detail, p.RequestID = in.Detail, in.RequestID
	}
	return p
}

func final(err error) bool { return errors.Is(err, ErrRefused) }
