package gateway

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/functions/federation"
	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oidc"
	"github.com/defenseunicorns/peat-gateway/shared/login"
	"github.com/defenseunicorns/peat-gateway/shared/platform/cookie"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// PeopleSettings say how the people who run the gateway are known.
type PeopleSettings struct {
	Issuer     string
	ClientID   string
	Secret     env.Secret
	SecretFile string
	Audiences  []string
	CAFile     string
	Scopes     []string
	Groups     string // claims, by their paths
	Roles      string
	Orgs       string
	Names      access.Mapping

	SessionKey     env.Secret
	SessionKeyFile string
	Idle, Whole    time.Duration
}

func readPeople(e *env.Reader) PeopleSettings {
	s := PeopleSettings{
		Issuer:     e.String("PEAT_OIDC_ISSUER", "", "OpenID provider of the people who run the gateway, as its tokens name it; without one nobody but tokens of the gateway's own gets in"),
		ClientID:   e.String("PEAT_OIDC_CLIENT_ID", "", "as whom it knows the gateway"),
		Secret:     e.Secret("PEAT_OIDC_CLIENT_SECRET", "secret of that client; without one it is a public client"),
		SecretFile: e.String("PEAT_OIDC_CLIENT_SECRET_FILE", "", "file that holds PEAT_OIDC_CLIENT_SECRET instead"),
		Audiences:  words(e.String("PEAT_OIDC_AUDIENCE", "", "for whom bearer tokens must be, with commas between several; default: PEAT_OIDC_CLIENT_ID")),
		CAFile:     e.String("PEAT_OIDC_CA_FILE", "", "authorities that vouch for the provider, PEM; default: those of the system"),
		Scopes:     words(e.String("PEAT_OIDC_SCOPES", "profile", "scopes that a login asks for besides openid")),
		Groups:     e.String("PEAT_OIDC_GROUPS_CLAIM", "groups", "claim that lists somebody's groups, by its path: names with dots between them"),
		Roles:      e.String("PEAT_OIDC_ROLES_CLAIM", "roles", "claim that lists somebody's roles; of Keycloak realm_access.roles"),
		Orgs:       e.String("PEAT_OIDC_ORGS_CLAIM", "organization", "claim that names somebody's organizations; that of the groups has them be the groups"),
		SessionKey: e.Secret("PEAT_SESSION_KEY",
			"key that seals what browsers carry of a login, 64 hexadecimal characters; older ones after it, with commas between them; without it nobody logs in"),
		SessionKeyFile: e.String("PEAT_SESSION_KEY_FILE", "", "file that holds PEAT_SESSION_KEY instead; made if it is not there"),
		Idle:           e.Duration("PEAT_SESSION_IDLE", 30*time.Minute, "how long a login lasts without a request"),
		Whole:          e.Duration("PEAT_SESSION_MAX", 8*time.Hour, "how long a login lasts at most"),
	}
	s.Names = access.Mapping{
		Admin:    e.String("PEAT_OIDC_ADMIN", "peat-admin", "role or group that makes a gateway-admin"),
		OrgAdmin: e.String("PEAT_OIDC_ORG_ADMIN", "peat-org-admin", "role or group that makes an org-admin in one's organizations"),
		Viewer:   e.String("PEAT_OIDC_VIEWER", "peat-viewer", "role or group that makes a viewer in one's organizations"),
		Orgs:     s.Orgs,
	}
	s.Names.OrgsAreGroups = s.Orgs == s.Groups
	if s.Issuer == "" {
		return s
	}
	if _, err := oauth.ParseIssuer(s.Issuer); err != nil {
		e.Wrong("PEAT_OIDC_ISSUER", err.Error())
	}
	if s.ClientID == "" {
		e.Wrong("PEAT_OIDC_CLIENT_ID", "must be set where PEAT_OIDC_ISSUER is")
	}
	if s.Names.Admin == s.Names.OrgAdmin || s.Names.Admin == s.Names.Viewer || s.Names.OrgAdmin == s.Names.Viewer {
		e.Wrong("PEAT_OIDC_ADMIN", "PEAT_OIDC_ORG_ADMIN and PEAT_OIDC_VIEWER must be three names")
	}
	if s.Idle < time.Minute || s.Whole < s.Idle {
		e.Wrong("PEAT_SESSION_IDLE", "must be a minute at least, and PEAT_SESSION_MAX no less than it")
	}
	return s
}

// words are texts with commas or spaces between them.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// people are the gateway's people, opened when first asked for.
type people struct {
	verifier identity.Verifier
	access   *access.People
	ca       []byte
}

// anywhere is where the gateway's own provider may be: the operator says where it is,
// and no organization.
var anywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// people opens what is needed to know people; nil where they are not known.
func (h *Host) people(ctx context.Context) (*people, error) {
	s := h.Settings.People
	if s.Issuer == "" {
		return nil, nil
	}
	st, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known != nil {
		return h.known, nil
	}
	p := &people{}
	if s.CAFile != "" {
		if p.ca, err = os.ReadFile(s.CAFile); err != nil {
			return nil, fmt.Errorf("PEAT_OIDC_CA_FILE: %w", err)
		}
	}
	if p.verifier, err = s.verifier(string(p.ca), h.Settings.PublicURL); err != nil {
		return nil, fmt.Errorf("PEAT_OIDC_ISSUER: %w", err)
	}
	h.closes = append(h.closes, p.verifier.Close)
	p.access = &access.People{Verifier: p.verifier, Mapping: s.Names, Log: h.Log, Now: time.Now}
	if p.access.Sessions, err = s.sessions(h.Settings.PublicURL); err != nil {
		return nil, err
	}
	if p.access.Sessions == nil {
		h.Log.Warn("PEAT_SESSION_KEY is not set: people call by tokens of their provider, and do not log in")
	} else {
		p.access.Sessions.Endings = st
	}
	h.known = p
	return p, nil
}

// verifier tells the provider's tokens from others.
func (s PeopleSettings) verifier(ca string, public *url.URL) (identity.Verifier, error) {
	config := map[string]any{"issuer": s.Issuer, "audiences": s.Audiences, "claims": map[string]any{"groups": s.Groups, "roles": s.Roles}}
	if len(s.Audiences) == 0 {
		config["audiences"] = []string{s.ClientID}
	}
	if ca != "" {
		config["tls"] = map[string]any{"ca_pem": ca}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	settings := identity.Settings{PublicURL: public, AllowPrivate: anywhere, Now: time.Now}
	parsed, err := oidc.Parse(text, nil, settings)
	if err != nil {
		return nil, err
	}
	if text, err = json.Marshal(parsed.Public); err != nil {
		return nil, err
	}
	return oidc.Open(identity.Opening{Provider: identity.Provider{Kind: identity.OIDC, Issuer: s.Issuer, Enabled: true, Config: text}, Settings: settings})
}

// client is as whom the gateway asks the provider.
func (s PeopleSettings) client(ca []byte) (*oauth.Client, error) {
	secret := s.Secret
	if !secret.IsSet() && s.SecretFile != "" {
		text, err := os.ReadFile(s.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("PEAT_OIDC_CLIENT_SECRET_FILE: %w", err)
		}
		secret = env.NewSecret(strings.TrimRight(string(text), "\r\n"))
	}
	var roots *x509.CertPool
	if len(ca) > 0 {
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(ca) {
			return nil, errors.New("PEAT_OIDC_CA_FILE holds no certificate in PEM")
		}
	}
	return &oauth.Client{Issuer: s.Issuer, ID: s.ClientID, Secret: secret, HTTP: oauth.Transport(netguard.New(anywhere).DialContext, roots), Now: time.Now}, nil
}

// sessions are people's logins; nil where nobody logs in.
func (s PeopleSettings) sessions(public *url.URL) (*access.Sessions, error) {
	var key cookie.Key
	var err error
	switch {
	case s.SessionKey.IsSet():
		key, err = cookie.ParseKey(s.SessionKey.Reveal())
	case s.SessionKeyFile != "":
		key, err = cookie.LoadOrCreateKey(s.SessionKeyFile)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("session key: %w", err)
	}
	if public == nil {
		return nil, errors.New("PEAT_PUBLIC_URL is not set: the identity provider would not know where to send people back to")
	}
	return &access.Sessions{
		Key: key, Idle: s.Idle, Whole: s.Whole, Origin: origin(public), Issuer: s.Issuer,
		Rules: s.Names.Digest(s.Issuer, s.ClientID), Now: time.Now,
	}, nil
}

// origin is an address as browsers name it as the origin of a request.
func origin(u *url.URL) string {
	usual := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return u.Scheme + "://" + strings.ToLower(strings.TrimSuffix(u.Host, ":"+usual))
}

// logins are what logging people in needs; nil where nobody logs in.
func (h *Host) logins(ctx context.Context) (*federation.Logins, error) {
	p, err := h.people(ctx)
	if err != nil || p == nil || p.access.Sessions == nil {
		return nil, err
	}
	// Only who logs people in has the client's secret.
	client, err := h.Settings.People.client(p.ca)
	if err != nil {
		return nil, err
	}
	events, ok := p.verifier.(login.Events)
	if !ok {
		return nil, errors.New("the verifier of the identity provider tells of no events")
	}
	return &federation.Logins{Mapping: p.access.Mapping, Sessions: p.access.Sessions, Login: &login.Login{
		Client: client, Verifier: p.verifier, Events: events, Public: h.Settings.PublicURL, Scopes: h.Settings.People.Scopes, Now: time.Now,
	}}, nil
}
