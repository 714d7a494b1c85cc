package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity/deviceflow"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
	"github.com/defenseunicorns/peat-gateway/shared/node"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// showing says what the node shows; nil: nothing.
func (c *enrollCommand) showing(key tenant.Key) (node.Showing, error) {
	ways := map[string]func() (node.Showing, error){}
	if c.tokenFile != "" || os.Getenv("PEAT_ENROLLMENT_TOKEN") != "" {
		ways["an enrollment token"] = c.showToken
	}
	if c.oidcFile != "" || os.Getenv("PEAT_OIDC_TOKEN") != "" {
		ways["a token of a provider"] = c.showOIDC
	}
	if c.issuer != "" {
		ways["--device-flow"] = c.showDeviceFlow
	}
	if c.samlFile != "" {
		ways["--saml-file"] = func() (node.Showing, error) { return c.showSAML(key), nil }
	}
	if c.clientCert != "" {
		ways["--client-cert"] = func() (node.Showing, error) {
			return c.identity(func(context.Context, string) (node.Identity, error) {
				return node.Identity{ClientCertificate: true}, nil
			}), nil
		}
	}
	switch {
	case c.samlSignIn != "" && (c.samlFile == "" || c.samlFile == "-"):
		return nil, errors.New("--saml-sign-in needs --saml-file, where the response will be")
	case c.clientID != "" && c.issuer == "" || c.issuer != "" && c.clientID == "":
		return nil, errors.New("--device-flow and --client-id go together")
	}
	var names []string
	for name := range ways {
		names = append(names, name)
	}
	if len(names) > 1 {
		return nil, fmt.Errorf("there is more than one thing to show: %s", strings.Join(names, ", "))
	}
	for _, way := range ways {
		return way()
	}
	return nil, nil
}

// identity shows who somebody else says that the node is.
func (c *enrollCommand) identity(get func(ctx context.Context, challenge string) (node.Identity, error)) node.Showing {
	return node.ShowFunc(func(ctx context.Context, challenge string) (node.Shown, error) {
		got, err := get(ctx, challenge)
		got.Provider = c.provider
		return node.Shown{Identity: &got}, err
	})
}

func (c *enrollCommand) showToken() (node.Showing, error) {
	read := c.secret(c.tokenFile, "PEAT_ENROLLMENT_TOKEN")
	return node.ShowFunc(func(context.Context, string) (node.Shown, error) {
		text, err := read()
		return node.Shown{Token: text}, err
	}), nil
}

func (c *enrollCommand) showOIDC() (node.Showing, error) {
	read := c.secret(c.oidcFile, "PEAT_OIDC_TOKEN")
	return c.identity(func(context.Context, string) (node.Identity, error) {
		text, err := read()
		return node.Identity{Token: text}, err
	}), nil
}

// showDeviceFlow has somebody sign in elsewhere. Whoever did so need not again as long
// as the provider goes on with what it gave, which is kept in memory alone.
func (c *enrollCommand) showDeviceFlow() (node.Showing, error) {
	if _, err := oauth.ParseIssuer(c.issuer); err != nil {
		return nil, fmt.Errorf("--device-flow %w", err)
	}
	secret := env.Secret{}
	if c.clientSecretFile != "" || os.Getenv("PEAT_OIDC_CLIENT_SECRET") != "" {
		var err error
		if secret, err = c.secret(c.clientSecretFile, "PEAT_OIDC_CLIENT_SECRET")(); err != nil {
			return nil, fmt.Errorf("--client-secret-file: %w", err)
		}
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	client := &oauth.Client{Issuer: c.issuer, ID: c.clientID, Secret: secret, Now: time.Now, HTTP: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	flow := deviceflow.Flow{Client: client, Scopes: strings.Fields(c.scopes), Audience: c.audience, Wait: deviceflow.Sleep}
	var last oauth.Tokens
	return c.identity(func(ctx context.Context, _ string) (node.Identity, error) {
		if last.Refresh.IsSet() {
			m, err := client.Metadata(ctx)
			if err != nil {
				return node.Identity{}, err
			}
			got, err := client.Ask(ctx, m, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {last.Refresh.Reveal()}})
			if err == nil {
				if !got.Refresh.IsSet() {
					got.Refresh = last.Refresh
				}
				last = got
				return node.Identity{Token: got.Access}, nil
			}
			if errors.Is(err, fault.Unavailable) {
				return node.Identity{}, err
			}
		}
		prompt, err := flow.Begin(ctx)
		if err != nil {
			return node.Identity{}, err
		}
		fmt.Fprintf(c.stderr, "have somebody open %s and type in %s\n", prompt.URL, prompt.UserCode)
		if prompt.FullURL != "" {
			fmt.Fprintf(c.stderr, "or open %s\n", prompt.FullURL)
		}
		last, err = flow.Token(ctx, prompt)
		return node.Identity{Token: last.Access}, err
	}), nil
}

// showSAML shows a response from a file, and may wait until somebody has put it there.
func (c *enrollCommand) showSAML(key tenant.Key) node.Showing {
	read := c.secret(c.samlFile, "")
	return c.identity(func(ctx context.Context, challenge string) (node.Identity, error) {
		if c.samlSignIn != "" && challenge != "" {
			at := strings.TrimSuffix(c.gateway, "/") + "/orgs/" + string(key.Org) + "/identity-providers/" + url.PathEscape(c.samlSignIn) + "/saml/sign-in?" +
				url.Values{"challenge": {challenge}}.Encode()
			if err := os.Remove(c.samlFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return node.Identity{}, err // an answer to something else
			}
			fmt.Fprintf(c.stderr, "have somebody open %s and put what is downloaded in %s\n", at, c.samlFile)
			if err := waitFor(ctx, c.samlFile); err != nil {
				return node.Identity{}, err
			}
		}
		text, err := read()
		if err != nil {
			return node.Identity{}, err
		}
		xml, err := node.ParseSAML(text.Reveal())
		return node.Identity{SAML: xml}, err
	})
}

// waitFor waits until there is something in a file.
func waitFor(ctx context.Context, path string) error {
	for {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			return nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := deviceflow.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

func (c *enrollCommand) transport() (http.RoundTripper, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ca != "" {
		text, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca: %s holds no certificate", c.ca)
		}
	}
	if (c.clientCert == "") != (c.clientKey == "") {
		return nil, errors.New("--client-cert and --client-key go together")
	}
	if c.clientCert != "" {
		if _, err := tls.LoadX509KeyPair(c.clientCert, c.clientKey); err != nil {
			return nil, fmt.Errorf("--client-cert: %w", err)
		}
		// Read anew each time: it may have been replaced.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.clientCert, c.clientKey)
			return &pair, err
		}
	}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		// Between two renewals a connection only grows old.
		DisableKeepAlives: true,
	}, nil
}

// maxSecret is longer than anything that is shown.
const maxSecret = 512 << 10

// secret returns what reads a secret: each time from its file, once from the
// standard input, or from the environment. None is ever an argument, where every
// user of the machine could see it.
func (c *enrollCommand) secret(path, variable string) func() (env.Secret, error) {
	var once env.Secret
	return func() (env.Secret, error) {
		switch {
		case path == "":
			return env.NewSecret(os.Getenv(variable)), nil
		case path == "-" && once.IsSet():
			return once, nil
		case path == "-":
			text, err := readSecret(c.stdin, "the standard input")
			once = text
			return text, err
		}
		f, err := os.Open(path)
		if err != nil {
			return env.Secret{}, err
		}
		defer func() { _ = f.Close() }()
		return readSecret(f, path)
	}
}

func readSecret(r io.Reader, name string) (env.Secret, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	switch {
	case err != nil:
		return env.Secret{}, err
	case len(text) > maxSecret:
		return env.Secret{}, fmt.Errorf("%s is too long for what it should hold", name)
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return env.Secret{}, fmt.Errorf("%s is empty", name)
	}
	return env.NewSecret(secret), nil
}
