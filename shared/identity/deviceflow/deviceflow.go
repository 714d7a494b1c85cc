// Package deviceflow logs in what has no browser: a node shows a code, somebody types
// it in elsewhere, and the node, which has kept asking, is given a token (RFC 8628). The
// node talks to the provider itself; the gateway only ever sees the token.
package deviceflow

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Bounds of what a provider may ask of us. Interval and step are those of RFC 8628.
const (
	interval    = 5 * time.Second
	step        = 5 * time.Second
	maxInterval = 5 * time.Minute
	maxLife     = time.Hour
)

const grantType = "urn:ietf:params:oauth:grant-type:device_code"

// Flow logs in at one provider.
type Flow struct {
	Client *oauth.Client
	Scopes []string // "openid" is always among them
	// Audience is for whom the token shall be, for providers that want to be told.
	Audience string
	// Wait lets so much time pass, or returns why it did not.
	Wait func(ctx context.Context, d time.Duration) error
}

// Sleep is the usual Flow.Wait.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Prompt is what somebody must be shown.
type Prompt struct {
	UserCode string
	URL      string // where to type it in
	FullURL  string // the same with the code in it, for a QR code; empty if there is none
	Expires  time.Time

	code     env.Secret
	interval time.Duration
}

// Begin asks the provider for a code to show.
func (f Flow) Begin(ctx context.Context) (Prompt, error) {
	m, err := f.Client.Metadata(ctx)
	if err != nil {
		return Prompt{}, err
	}
	form := url.Values{"scope": {strings.Join(append([]string{"openid"}, f.Scopes...), " ")}}
	if f.Audience != "" {
		form.Set("audience", f.Audience)
	}
	var out answer
	if err := f.Client.Post(ctx, m, m.DeviceAuthorization, form, &out); err != nil {
		return Prompt{}, refused(err)
	}
	return out.prompt(f.Client.Now())
}

// answer is the provider's, as RFC 8628 section 3.2 has it.
type answer struct {
	DeviceCode string  `json:"device_code"`
	UserCode   string  `json:"user_code"`
	URL        string  `json:"verification_uri"`
	FullURL    string  `json:"verification_uri_complete"`
	Life       float64 `json:"expires_in"`
	Interval   float64 `json:"interval"`
}

// prompt checks what will be shown to a person who then does as it says.
func (a answer) prompt(now time.Time) (Prompt, error) {
	none := func(why string) (Prompt, error) {
		return Prompt{}, fault.Unavailable.Wrap(errors.New(why), "the identity provider gives an answer that is none")
	}
	switch {
	case a.DeviceCode == "" || len(a.DeviceCode) > 4096:
		return none("it has no device code")
	case !printable(a.UserCode) || len(a.UserCode) > 64:
		return none("it has no user code that can be shown")
	case !isAddress(a.URL):
		return none("it has no address that can be shown")
	case a.FullURL != "" && !isAddress(a.FullURL):
		return none("its full address cannot be shown")
	case !(a.Life > 0):
		return none("its code has expired")
	}
	p := Prompt{UserCode: a.UserCode, URL: a.URL, FullURL: a.FullURL, code: env.NewSecret(a.DeviceCode), interval: interval}
	p.Expires = now.Add(seconds(a.Life, maxLife))
	if a.Interval > 0 {
		p.interval = max(seconds(a.Interval, maxInterval), time.Second)
	}
	return p, nil
}

func seconds(n float64, most time.Duration) time.Duration {
	return time.Duration(min(n, most.Seconds()) * float64(time.Second))
}

// printable tells what a terminal shows as it is from what it obeys.
func printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e })
}

func isAddress(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= 2048 && printable(s) && u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http")
}

// Token waits until somebody has let the node in and returns its tokens. It ends with
// fault.Forbidden if they said no, with fault.Unauthenticated if nobody did in time.
// A provider that does not answer for a while is asked again.
func (f Flow) Token(ctx context.Context, p Prompt) (oauth.Tokens, error) {
	m, err := f.Client.Metadata(ctx)
	if err != nil {
		return oauth.Tokens{}, err
	}
	for pause := p.interval; ; {
		if err := f.Wait(ctx, pause); err != nil {
			return oauth.Tokens{}, err
		}
		if !f.Client.Now().Before(p.Expires) {
			return oauth.Tokens{}, errExpired
		}
		got, err := f.Client.Ask(ctx, m, url.Values{"grant_type": {grantType}, "device_code": {p.code.Reveal()}})
		no, isNo := errors.AsType[*oauth.Refusal](err)
		switch {
		case err == nil:
			return got, nil
		case ctx.Err() != nil:
			return oauth.Tokens{}, ctx.Err()
		case isNo && no.Code == oauth.AuthorizationPending:
		case isNo && no.Code == oauth.SlowDown:
			pause = min(pause+step, maxInterval)
		case !isNo && errors.Is(err, fault.Unavailable):
			pause = min(2*pause, maxInterval) // as RFC 8628 has it after a time-out
		default:
			return oauth.Tokens{}, refused(err)
		}
	}
}

var errExpired = fault.Unauthenticated.New("nobody let this node in while the code was good; begin again")

// refused gives a provider's no its class.
func refused(err error) error {
	no, ok := errors.AsType[*oauth.Refusal](err)
	switch {
	case !ok:
		return err
	case no.Code == oauth.AccessDenied:
		return fault.Forbidden.Wrap(err, "whoever was asked did not let this node in")
	case no.Code == oauth.ExpiredToken:
		return errExpired
	}
	return fault.Unauthenticated.Wrap(err, "the identity provider does not take this client or its code")
}
