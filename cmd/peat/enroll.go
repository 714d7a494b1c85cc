package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity/deviceflow"
	"github.com/defenseunicorns/peat-gateway/shared/node"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const enrollUsage = `peat enroll --gateway URL --org ORGANIZATION --app FORMATION --dir DIR [FLAGS]

gets a node its certificate and keeps it, with the node's key, in DIR. Done again, it renews the certificate if it
is time, and does nothing if not; with --watch it stays and does so as long as it runs. What the node shows, one of
the following, is in a file, which is read anew each time; - is the standard input.
It ends with 0 if the certificate is good, 3 if the gateway refuses and would again, and 1 for everything else.

`

// refusedCode ends the program when trying again is of no use.
const refusedCode = 3

// enrollCommand is what the flags say.
type enrollCommand struct {
	gateway, org, app, id, mesh, dir string
	ca                               string
	authorities                      []ed25519.PublicKey
	watch                            bool

	tokenFile                          string
	oidcFile, provider                 string
	issuer, clientID, clientSecretFile string
	audience, scopes                   string
	samlFile, samlSignIn               string
	clientCert, clientKey              string

	stdin          io.Reader
	stdout, stderr io.Writer
}

// enroll takes a node to its certificate.
func enroll(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	c := &enrollCommand{stdin: stdin, stdout: stdout, stderr: stderr}
	if err := c.parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return fmt.Errorf("enroll: %w", err)
	}
	n, err := c.node()
	if err != nil {
		return fmt.Errorf("enroll: %w", err)
	}
	unlock, err := lockDir(c.dir)
	if err != nil {
		return fmt.Errorf("enroll: %w", err)
	}
	defer unlock()
	if c.watch {
		err = n.Watch(ctx, c.show)
	} else {
		var got node.Certificate
		if got, err = n.Ready(ctx); err == nil {
			err = c.show(got)
		}
	}
	switch {
	case errors.Is(err, node.ErrRefused):
		return codeError{fmt.Errorf("enroll: the gateway refuses: %w", err), refusedCode}
	case err != nil:
		return fmt.Errorf("enroll: %w", err)
	}
	return nil
}

func (c *enrollCommand) parse(args []string) error {
	flags := flag.NewFlagSet("peat enroll", flag.ContinueOnError)
	flags.SetOutput(c.stderr)
	flags.Usage = func() {
		fmt.Fprint(c.stderr, enrollUsage)
		flags.PrintDefaults()
	}
	flags.StringVar(&c.gateway, "gateway", "", "`address` of the gateway, https unless it is on this machine")
	flags.StringVar(&c.org, "org", "", "the `organization`")
	flags.StringVar(&c.app, "app", "", "the `formation`")
	flags.StringVar(&c.mesh, "mesh-id", "", "the formation's mesh `id`, if it is not to be taken from the gateway")
	flags.StringVar(&c.id, "node-id", "", "the node's `name` in the mesh (default: the name of this machine)")
	flags.StringVar(&c.dir, "dir", "", "`folder` for the key and the certificate")
	flags.StringVar(&c.ca, "ca", "", "`file` with the authorities, PEM, that vouch for the gateway, instead of this machine's")
	flags.Func("authority", "take only certificates that this authority signed: its public `key`, 64 hexadecimal characters; may be repeated", func(s string) error {
		key, err := hex.DecodeString(s)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return errors.New("must be 64 hexadecimal characters")
		}
		c.authorities = append(c.authorities, key)
		return nil
	})
	flags.BoolVar(&c.watch, "watch", false, "stay, and renew the certificate whenever it is time")
	flags.StringVar(&c.tokenFile, "token-file", "", "show the enrollment token in this `file`; PEAT_ENROLLMENT_TOKEN holds one, too")
	flags.StringVar(&c.oidcFile, "oidc-token-file", "", "show the token of an OpenID provider, or an opaque one, in this `file`; PEAT_OIDC_TOKEN holds one, too")
	flags.StringVar(&c.issuer, "device-flow", "", "have somebody sign in elsewhere for this node, at the OpenID provider with this `issuer`")
	flags.StringVar(&c.clientID, "client-id", "", "for --device-flow: the `client` that the node is at the provider")
	flags.StringVar(&c.clientSecretFile, "client-secret-file", "", "for --device-flow: `file` with the client's secret, if it has one; PEAT_OIDC_CLIENT_SECRET holds one, too")
	flags.StringVar(&c.audience, "audience", "", "for --device-flow: whom the token is for, where the provider wants to be `told`")
	flags.StringVar(&c.scopes, "scopes", "", "for --device-flow: `scopes` to ask for, a space between them")
	flags.StringVar(&c.samlFile, "saml-file", "", "show the SAML response in this `file`, as XML or in base64")
	flags.StringVar(&c.samlSignIn, "saml-sign-in", "", "for --saml-file: print where somebody signs in at this `provider` of the organization, and wait for the file")
	flags.StringVar(&c.clientCert, "client-cert", "", "show the client certificate in this `file`, PEM, with its chain")
	flags.StringVar(&c.clientKey, "client-key", "", "`file` with its key, PEM")
	flags.StringVar(&c.provider, "provider", "", "`id` of the identity provider at the gateway, where what is shown does not tell")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %q?", flags.Arg(0))
	}
	for name, value := range map[string]string{"gateway": c.gateway, "org": c.org, "app": c.app, "dir": c.dir} {
		if value == "" {
			return fmt.Errorf("--%s is missing; --help shows what there is", name)
		}
	}
	return nil
}

// node makes the node of the flags.
func (c *enrollCommand) node() (*node.Node, error) {
	org, err := tenant.ParseOrgID(c.org)
	if err != nil {
		return nil, fmt.Errorf("--org: %w", err)
	}
	app, err := tenant.ParseAppID(c.app)
	if err != nil {
		return nil, fmt.Errorf("--app: %w", err)
	}
	if c.id == "" {
		if c.id, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("--node-id is missing, and this machine has no name: %w", err)
		}
	}
	key := tenant.Key{Org: org, App: app}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	client, err := node.NewClient(c.gateway, key, transport)
	if err != nil {
		return nil, fmt.Errorf("--gateway %w", err)
	}
	folder, err := node.OpenFolder(c.dir)
	if err != nil {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	showing, err := c.showing(key)
	if err != nil {
		return nil, err
	}
	return &node.Node{
		Client: client, Folder: folder, Key: key, ID: c.id, MeshID: c.mesh, Authorities: c.authorities, Show: showing,
		Random: mathrand.Float64, Now: time.Now, Wait: deviceflow.Sleep, Say: c.stderr,
	}, nil
}

// show says what the node has now.
func (c *enrollCommand) show(got node.Certificate) error {
	_, err := fmt.Fprintf(c.stdout, "certificate %s of node %q, tier %q, is good until %s; renewal from %s on\n", got.Serial, got.NodeID, got.Tier,
		got.ExpiresAt.UTC().Format(time.RFC3339), got.RenewAfter.UTC().Format(time.RFC3339))
	return err
}
