package federation

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// samlRoutes are where browsers and identity providers find the service provider that
// we are. They know nobody: what comes is signed, or is of no use.
func (f *Function) samlRoutes() []web.Route {
	const base = "/orgs/{org}/identity-providers/{provider}/saml"
	return []web.Route{
		{Pattern: "GET " + base + "/metadata", Need: web.Anyone, Handle: f.samlMetadata},
		{Pattern: "GET " + base + "/sign-in", Need: web.Anyone, Handle: f.samlSignIn},
		{Pattern: "POST " + base + "/acs", Need: web.Anyone, Handle: f.samlResponse},
	}
}

// samlPerMinute is how often an address may begin a sign-in or bring a response: each
// takes a signature.
const samlPerMinute = 60

// knock counts what anybody can cause. The addresses of one IPv6 network of a customer
// are one.
func (f *Function) knock(r *http.Request) error {
	a := web.Address(r.Context())
	if !a.IsValid() {
		return nil
	}
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	network, err := a.Prefix(bits)
	if err != nil {
		return nil
	}
	if wait := f.knocks.Take(network.String(), f.Now()); wait > 0 {
		return fault.RetryIn(fault.Exhausted.New("too many sign-ins from this address"), wait)
	}
	return nil
}

// maxChallenge bounds a challenge that a sign-in is for.
const maxChallenge = 512

// samlProvider is the provider of the path. One that is disabled is found only by who
// sets it up, and one of another kind not at all.
func (f *Function) samlProvider(r *http.Request, disabled bool) (identity.Provider, error) {
	org, err := web.Path(r, "org", tenant.ParseOrgID)
	if err != nil {
		return identity.Provider{}, err
	}
	id, err := web.Path(r, "provider", ulid.ParseStrict)
	if err != nil {
		return identity.Provider{}, err
	}
	missing := fault.NotFound.New("no such SAML identity provider")
	if f.Providers == nil {
		return identity.Provider{}, missing
	}
	p, err := f.Store.Provider(r.Context(), org, id.String())
	switch {
	case errors.Is(err, fault.NotFound):
		return identity.Provider{}, missing
	case err != nil:
		return identity.Provider{}, err
	case p.Kind != identity.SAML || !p.Enabled && !disabled:
		return identity.Provider{}, missing
	}
	return p, nil
}

// samlMetadata is what an identity provider is told of us.
func (f *Function) samlMetadata(w http.ResponseWriter, r *http.Request) error {
	p, err := f.samlProvider(r, true)
	if err != nil {
		return err
	}
	text, err := saml.OwnMetadata(identity.Opening{Provider: p, Settings: f.Providers.Settings})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/samlmetadata+xml")
	_, _ = w.Write(text) // the client may be gone; there is nobody to tell
	return nil
}

// samlSignIn sends a browser to the identity provider, with a request that goes with
// a node's challenge. Whether that is one of ours is seen when the node answers it.
func (f *Function) samlSignIn(w http.ResponseWriter, r *http.Request) error {
	p, err := f.samlProvider(r, false)
	if err != nil {
		return err
	}
	if err := f.knock(r); err != nil {
		return err
	}
	challenge := r.URL.Query().Get("challenge")
	if challenge == "" || len(challenge) > maxChallenge {
		return fault.Invalid.New("challenge is missing or longer than %d bytes", maxChallenge)
	}
	var to string
	if err := f.withSAML(r.Context(), p, func(v *saml.Verifier) error {
		to, err = v.SignIn(r.Context(), saml.RequestID(challenge), "", f.Now())
		return err
	}); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

func (f *Function) withSAML(ctx context.Context, p identity.Provider, fn func(*saml.Verifier) error) error {
	return f.Providers.Use(ctx, p, func(v identity.Verifier) error {
		s, ok := v.(*saml.Verifier)
		if !ok {
			return errors.New("a SAML identity provider was opened as something else")
		}
		return fn(s)
	})
}

// samlResponse gives a response that a browser brings back as a file, for the node
// that enrolls with it. It is verified, so that who signed in learns here what is
// wrong, and so that nothing comes out of this door that an identity provider did not
// sign. It is not used up, and for which challenge it is good is not asked.
func (f *Function) samlResponse(w http.ResponseWriter, r *http.Request) error {
	p, err := f.samlProvider(r, false)
	if err != nil {
		return err
	}
	if err := f.knock(r); err != nil {
		return err
	}
	response, err := readSAMLResponse(r)
	if err != nil {
		return err
	}
	proof := identity.Proof{SAML: response, Provider: p.ID}
	if said, err := saml.Peek(response); err == nil && said.InResponseTo != "" {
		proof.Expect.InResponseTo = []string{said.InResponseTo}
	}
	if _, _, err := f.Providers.Verify(r.Context(), p.Org, proof, f.Now()); err != nil {
		if !errors.Is(err, fault.Unauthenticated) {
			return err
		}
		if f.Log != nil {
			f.Log.LogAttrs(r.Context(), slog.LevelInfo, "a SAML response is refused",
				slog.String("org_id", string(p.Org)), slog.String("provider_id", p.ID), slog.String("reason", err.Error()))
		}
		return identity.Refused(err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/samlassertion+xml")
	h.Set("Content-Disposition", `attachment; filename="saml-response.xml"`)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(response) // the client may be gone; there is nobody to tell
	return nil
}

// readSAMLResponse reads the form that a browser posts (saml-bindings, 3.5).
func readSAMLResponse(r *http.Request) ([]byte, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		return nil, fault.UnsupportedMedia.New("the content type must be application/x-www-form-urlencoded")
	}
	if err := r.ParseForm(); err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return nil, fault.TooLarge.New("the body is longer than %d bytes", long.Limit)
		}
		return nil, fault.Malformed.New("the body is not a form")
	}
	sent := r.PostForm["SAMLResponse"]
	if len(sent) != 1 || strings.TrimSpace(sent[0]) == "" {
		return nil, fault.Malformed.New("the form has no SAMLResponse, or several")
	}
	return saml.Decode([]byte(sent[0]))
}
