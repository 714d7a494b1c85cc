package saml

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/backchannel"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// How old metadata that is fetched may become.
const (
	fresh    = time.Hour // then it is fetched anew, unless it says otherwise
	freshest = 5 * time.Minute
	outage   = 24 * time.Hour   // how long it is believed while it cannot be fetched
	again    = 30 * time.Second // between two tries
)

// source is where the metadata comes from: a text, or an address that is asked when
// a response comes and what is known is no longer fresh.
type source struct {
	entityID string
	text     *Metadata // nil: it is fetched
	url      string
	client   *backchannel.Client
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
	if out.keep, err = readDuration(c.MaxOutage, outage, 0, longest); err != nil {
		return nil, errUnreadable
	}
	out.url = c.MetadataURL
	out.client, err = backchannel.New(c.TLS, s)
	return out, err
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
	m, err := s.fetch(ctx)
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
func (s *source) fetch(ctx context.Context) (*Metadata, error) {
	if s.text != nil {
		return s.text, nil
	}
	ctx, cancel := s.client.Limit(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, errUnreadable
	}
	r.Header.Set("Accept", "application/samlmetadata+xml, application/xml;q=0.9, text/xml;q=0.8, */*;q=0.1")
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, unreachable(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, unreachable(err)
	}
	m, err := parseMetadata(body, s.entityID)
	if err != nil {
		return nil, fault.Unavailable.New("the metadata %s", err)
	}
	return m, nil
}

func unreachable(err error) error {
	return fault.Unavailable.New("the metadata's server: %s", backchannel.Describe(err))
}

func (s *source) close() {
	if s.client != nil {
		s.client.Close()
	}
}
