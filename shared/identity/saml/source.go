package saml

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// How old metadata that is fetched may become.
const (
	fresh     = time.Hour // then it is fetched anew, unless it says otherwise
	freshest  = 5 * time.Minute
	staleness = 24 * time.Hour   // how long it is believed while it cannot be fetched
	again     = 30 * time.Second // between two tries
	patience  = 10 * time.Second // with the server
)

// source is where the metadata comes from: a text, or an address that is asked when
// a response comes and what is known is no longer fresh.
type source struct {
	entityID string
	text     *Metadata // nil: it is fetched
	url      string
	client   *http.Client
	keep     time.Duration

	turn  chan struct{} // held by who looks at and changes what is below
	known *Metadata
	asOf  time.Time // when known was fetched
	tried time.Time // when that was last tried
}

func newSource(c Config, s identity.Settings) (*source, error) {
	out := &source{entityID: c.EntityID, turn: make(chan struct{}, 1)}
	if c.MetadataURL == "" {
		m, err := parseMetadata([]byte(c.MetadataXML), c.EntityID)
		if err != nil {
			return nil, errUnreadable
		}
		out.text = m
		return out, nil
	}
	var err error
	if out.keep, err = readDuration(c.KeepMetadata, staleness, time.Hour, longest); err != nil {
		return nil, errUnreadable
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM([]byte(c.CA)) {
			return nil, errUnreadable
		}
	}
	out.url = c.MetadataURL
	out.client = &http.Client{
		Transport: &http.Transport{
			DialContext: netguard.New(s.AllowPrivate).DialContext, TLSClientConfig: trust, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: patience, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 1, MaxResponseHeaderBytes: 64 << 10,
		},
		// Who is asked for keys is who the administrator said, and nobody they point to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return out, nil
}

// get returns the metadata to verify with, and, if it could not be fetched anew when
// it should have been, until when it is believed.
func (s *source) get(ctx context.Context, now time.Time) (*Metadata, time.Time, error) {
	if s.text != nil {
		if !s.text.good(now) {
			return nil, time.Time{}, fault.Unavailable.New("the identity provider's metadata is no longer valid")
		}
		return s.text, time.Time{}, nil
	}
	if err := s.take(ctx); err != nil {
		return nil, time.Time{}, err
	}
	defer s.release()
	if s.known != nil && now.Before(s.asOf.Add(s.freshness())) && s.known.good(now) {
		return s.known, time.Time{}, nil
	}
	var failed error
	if s.tried.IsZero() || !now.Before(s.tried.Add(again)) {
		if failed = s.renew(ctx, now); failed == nil {
			return s.known, time.Time{}, nil
		}
	}
	if s.known == nil || !now.Before(s.until()) {
		return nil, time.Time{}, fault.Unavailable.Wrap(failed, "the identity provider's metadata cannot be fetched")
	}
	return s.known, s.until(), nil
}

// newer returns metadata that differs from what a signature was not verified with,
// if there is any now. It asks the server for no more than one try in a while: whoever
// sends responses could make us ask.
func (s *source) newer(ctx context.Context, than *Metadata, now time.Time) (*Metadata, bool) {
	if s.text != nil || s.take(ctx) != nil {
		return nil, false
	}
	defer s.release()
	if s.known != than {
		return s.known, s.known != nil
	}
	if now.Before(s.tried.Add(again)) || s.renew(ctx, now) != nil {
		return nil, false
	}
	return s.known, true
}

// take waits for the turn. One asks, and the others use what it brought.
func (s *source) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.Unavailable.Wrap(ctx.Err(), "the identity provider's metadata could not be fetched in time")
	}
}

func (s *source) release() { <-s.turn }

// renew fetches the metadata; the turn is taken. What is wrong with a newer one
// leaves the older in place.
func (s *source) renew(ctx context.Context, now time.Time) error {
	m, err := s.fetch(ctx, now)
	if err != nil && ctx.Err() != nil {
		return err // called off by this caller, which says nothing of the server
	}
	s.tried = now
	if err == nil && !m.good(now) {
		err = fault.Unavailable.New("the identity provider's metadata is no longer valid")
	}
	if err != nil {
		return err
	}
	s.known, s.asOf = m, now
	return nil
}

// freshness is for how long what is known need not be fetched again.
func (s *source) freshness() time.Duration {
	if s.known.Cache > 0 {
		return min(max(s.known.Cache, freshest), fresh)
	}
	return fresh
}

// until is when what is known is believed no more.
func (s *source) until() time.Time {
	out := s.asOf.Add(s.keep)
	if end := s.known.ValidUntil; !end.IsZero() && end.Before(out) {
		out = end
	}
	return out
}

// fetch gets the metadata and reads it. It keeps nothing.
func (s *source) fetch(ctx context.Context, _ time.Time) (*Metadata, error) {
	if s.text != nil {
		return s.text, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, errUnreadable
	}
	r.Header.Set("Accept", "application/samlmetadata+xml, application/xml;q=0.9, text/xml;q=0.8")
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, unreachable(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fault.Unavailable.New("the metadata's server answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxMetadata+1))
	if err != nil {
		return nil, unreachable(err)
	}
	m, err := parseMetadata(body, s.entityID)
	if err != nil {
		return nil, fault.Unavailable.New("the metadata %s", err)
	}
	return m, nil
}

// unreachable leaves the address out of an error, as far as it is ours to tell.
func unreachable(err error) error {
	switch {
	case errors.Is(err, netguard.ErrForbidden):
		return fault.Unavailable.Wrap(netguard.ErrForbidden, "the metadata's address may not be reached from here")
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Unavailable.New("the metadata's server did not answer in time")
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return fault.Unavailable.New("the certificate of the metadata's server is not trusted")
	}
	var sent *url.Error
	if errors.As(err, &sent) {
		err = sent.Err
	}
	return fault.Unavailable.Wrap(err, "the metadata's server cannot be reached")
}

func (s *source) close() {
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
}

// parseURL reads where metadata is fetched from. The keys in it decide who anybody
// is, so nobody may stand between: it is https, or on this machine.
func parseURL(text string, s identity.Settings) error {
	u, err := netguard.New(s.AllowPrivate).URL(text, "https", "http")
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Scheme == "http" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("must begin with https://")
	}
	return nil
}
