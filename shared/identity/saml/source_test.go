package saml_test

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// place is a server of metadata that does what a test says.
type place struct {
	*httptest.Server
	asked  atomic.Int64
	mu     sync.Mutex
	answer func(w http.ResponseWriter)
}

func newPlace(t *testing.T, metadata string) *place {
	t.Helper()
	p := &place{}
	p.serve(metadata)
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		p.mu.Lock()
		answer := p.answer
		p.mu.Unlock()
		answer(w)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *place) does(answer func(http.ResponseWriter)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *place) serve(metadata string) {
	p.does(func(w http.ResponseWriter) { _, _ = w.Write([]byte(metadata)) })
}

func (p *place) fail() {
	p.does(func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) })
}

func (p *place) config() map[string]any {
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
	return map[string]any{"metadata_xml": nil, "metadata_url": p.URL, "entity_id": issuer, "tls": map[string]any{"ca_pem": ca}}
}

// at verifies a response that was made at a time.
func at(t *testing.T, v *saml.Verifier, when time.Time) (identity.Claims, error) {
	t.Helper()
	a := answer()
	a.Now = when
	return v.Verify(t.Context(), identity.Proof{SAML: respond(t, idp(), a)}, when)
}

func TestFetched(t *testing.T) {
	p := newPlace(t, idp().Metadata())
	v := verifier(t, p.config())
	if p.asked.Load() != 0 {
		t.Error("it was asked before there was a response")
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if _, err := at(t, v, now); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := p.asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	if _, err := at(t, v, now.Add(59*time.Minute)); err != nil || p.asked.Load() != 1 {
		t.Errorf("%v, asked %d times", err, p.asked.Load())
	}
	if _, err := at(t, v, now.Add(61*time.Minute)); err != nil || p.asked.Load() != 2 {
		t.Errorf("%v, asked %d times", err, p.asked.Load())
	}
}

// TestOutage: while the server does not answer, what it said last is believed for a
// day, and that is told.
func TestOutage(t *testing.T) {
	p := newPlace(t, idp().Metadata())
	v := verifier(t, p.config())
	claims, err := at(t, v, now)
	if err != nil || !claims.Grace.IsZero() {
		t.Fatalf("%+v, %v", claims, err)
	}
	p.fail()
	later := now.Add(2 * time.Hour)
	if claims, err = at(t, v, later); err != nil || !claims.Grace.Equal(now.Add(24*time.Hour)) {
		t.Errorf("%s, %v", claims.Grace, err)
	}
	asked := p.asked.Load()
	if _, err = at(t, v, later.Add(time.Second)); err != nil || p.asked.Load() != asked {
		t.Errorf("%v, asked again at once", err)
	}
	if _, err = at(t, v, now.Add(25*time.Hour)); !errors.Is(err, fault.Unavailable) {
		t.Errorf("believed after a day: %v", err)
	}
	p.serve(idp().Metadata())
	if claims, err = at(t, v, now.Add(26*time.Hour)); err != nil || !claims.Grace.IsZero() {
		t.Errorf("%s, %v", claims.Grace, err)
	}
}

// TestNewKeys: a signature by a key that is not known has the metadata fetched, once
// in a while and no more.
func TestNewKeys(t *testing.T) {
	p := newPlace(t, stranger().Metadata())
	v := verifier(t, p.config())
	if _, err := at(t, v, now); !errors.Is(err, fault.Unauthenticated) {
		t.Fatal(err)
	}
	p.serve(idp().Metadata())
	asked := p.asked.Load()
	for range 5 {
		if _, err := at(t, v, now.Add(10*time.Second)); !errors.Is(err, fault.Unauthenticated) || p.asked.Load() != asked {
			t.Fatalf("%v, asked %d times more", err, p.asked.Load()-asked)
		}
	}
	if _, err := at(t, v, now.Add(time.Minute)); err != nil || p.asked.Load() != asked+1 {
		t.Errorf("%v, asked %d times more", err, p.asked.Load()-asked)
	}
}

func TestBadPlaces(t *testing.T) {
	other := strings.ReplaceAll(idp().Metadata(), issuer, "https://other.example")
	ended := strings.Replace(idp().Metadata(), "entityID=", `validUntil="2026-01-01T00:00:00Z" entityID=`, 1)
	for name, c := range map[string]struct {
		does func(http.ResponseWriter)
		why  string
	}{
		"another's metadata":  {func(w http.ResponseWriter) { _, _ = w.Write([]byte(other)) }, "another entity"},
		"metadata that ended": {func(w http.ResponseWriter) { _, _ = w.Write([]byte(ended)) }, "no longer valid"},
		"no metadata":         {func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html/>")) }, "not SAML metadata"},
		"a document type":     {func(w http.ResponseWriter) { _, _ = w.Write([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>`)) }, "document type"},
		"metadata without end": {func(w http.ResponseWriter) {
			_, _ = w.Write([]byte("<x>"))
			for range 40 {
				if _, err := w.Write([]byte(strings.Repeat(" ", 64<<10))); err != nil {
					return
				}
			}
		}, "longer than"},
		"an error": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) }, "418"},
		"a redirection": {func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://169.254.169.254/")
			w.WriteHeader(http.StatusFound)
		}, "302"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, "")
			p.does(c.does)
			v := verifier(t, p.config())
			_, err := at(t, v, now)
			if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%v", err)
			}
			if strings.Contains(err.Error(), p.URL) {
				t.Errorf("names the address: %v", err)
			}
		})
	}
}

func TestPlacesThatMayNotBeReached(t *testing.T) {
	p := newPlace(t, idp().Metadata())
	o := opening(p.config())
	o.AllowPrivate = nil
	v := must(saml.New(o))
	defer func() { _ = v.Close() }()
	if _, err := at(t, v, now); !errors.Is(err, fault.Unavailable) || p.asked.Load() != 0 {
		t.Errorf("%v", err)
	}
}

func TestAnUntrustedPlace(t *testing.T) {
	p := newPlace(t, idp().Metadata())
	config := p.config()
	delete(config, "tls")
	if _, err := at(t, verifier(t, config), now); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "not known here") {
		t.Errorf("%v", err)
	}
}

// TestCalledOff: a caller who gives up says nothing about the server to the others.
func TestCalledOff(t *testing.T) {
	p := newPlace(t, idp().Metadata())
	v := verifier(t, p.config())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Verify(ctx, identity.Proof{SAML: respond(t, idp(), answer())}, now); !errors.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	if _, err := at(t, v, now); err != nil {
		t.Error(err)
	}
}

func TestPastedMetadataThatEnds(t *testing.T) {
	v := verifier(t, map[string]any{"metadata_xml": strings.Replace(idp().Metadata(), "entityID=", `validUntil="2026-03-05T00:00:00Z" entityID=`, 1)})
	if _, err := at(t, v, now); err != nil {
		t.Error(err)
	}
	if _, err := at(t, v, now.Add(24*time.Hour)); !errors.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
}

func TestCheck(t *testing.T) {
	p := newPlace(t, idp().Metadata())
	o := opening(p.config())
	o.Now = time.Now
	v := must(saml.New(o))
	defer func() { _ = v.Close() }()
	report, err := v.Check(t.Context())
	if err != nil || len(report.Findings) != 4 {
		t.Fatalf("%+v, %v", report, err)
	}
	for i, name := range []string{"metadata", "clock", "keys", "sign-in"} {
		// The machine may stand still between the answer and the look at the clock.
		if f := report.Findings[i]; f.Name != name || !f.OK && name != "clock" || f.Detail == "" {
			t.Errorf("%+v", f)
		}
	}
	p.fail()
	if report, err = v.Check(t.Context()); err != nil || report.OK || !strings.Contains(report.Findings[0].Detail, "502") {
		t.Errorf("%+v, %v", report, err)
	}
	p.serve(idp().Metadata())
	if report, err = verifier(t, p.config()).Check(t.Context()); err != nil || report.OK || report.Findings[1].OK {
		t.Errorf("the clock is half a year off, and that is well: %+v, %v", report, err)
	}
}
