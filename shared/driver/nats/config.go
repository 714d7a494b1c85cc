package nats

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// natsConfig is what a NATS sink shows.
type natsConfig struct {
	URL           string            `json:"url,omitempty"` // empty: the operator's server
	SubjectPrefix string            `json:"subject_prefix"`
	Stream        string            `json:"stream,omitempty"`
	Username      string            `json:"username,omitempty"`
	TLS           *driver.TLSConfig `json:"tls,omitempty"`
	TLSFirst      bool              `json:"tls_first,omitempty"` // the server speaks nothing before TLS

	// What the stream is like if it is the sink that makes it. One that is there
	// already stays as it is.
	Replicas  int    `json:"replicas,omitempty"`
	Storage   string `json:"storage,omitempty"`
	MaxAge    string `json:"max_age,omitempty"`
	MaxBytes  int64  `json:"max_bytes,omitempty"`
	Duplicate string `json:"duplicate_window,omitempty"`
}

// natsSecrets is what it keeps sealed. At most one way to sign in is used.
type natsSecrets struct {
	Password    string `json:"password,omitempty"`
	Token       string `json:"token,omitempty"`
	Credentials string `json:"credentials,omitempty"` // a .creds file: a user's JWT and its seed
	NkeySeed    string `json:"nkey_seed,omitempty"`
	TLSKey      string `json:"tls_key,omitempty"` // of tls.client_cert_pem; comes in as a field of tls
}

const (
	maxName        = 128
	maxSecret      = 4 << 10
	maxCredentials = 64 << 10
	maxReplicas    = 5
	minBytes       = 1 << 20
	minAge         = time.Minute
	maxAge         = 10 * 366 * 24 * time.Hour
	minWindow      = time.Second
	maxWindow      = 24 * time.Hour
	// defaultWindow is for how long a new stream knows an event again. The server's own
	// two minutes are shorter than our ladder's third step.
	defaultWindow = 10 * time.Minute
)

// Parse checks the configuration of a NATS sink.
func Parse(in json.RawMessage, prior []byte, s driver.Settings) (driver.Config, error) {
	var before natsSecrets
	if err := driver.Prior(prior, &before); err != nil {
		return driver.Config{}, err
	}
	type all struct {
		natsConfig
		natsSecrets
	}
	merged, given := all{natsSecrets: before}, all{}
	if err := driver.DecodeConfig(in, &merged); err != nil {
		return driver.Config{}, err
	}
	if err := driver.DecodeConfig(in, &given); err != nil {
		return driver.Config{}, err
	}
	c, secrets := merged.natsConfig, merged.natsSecrets
	if given.signsIn() {
		// A new way to sign in takes the place of the old one, and is not added to it.
		secrets = given.natsSecrets
	}
	if given.TLSKey != "" {
		return driver.Config{}, driver.Invalid("config/tls_key", "must be tls.client_key_pem")
	}
	for _, check := range []func() error{
		func() error { return c.checkURL(s) }, c.checkNames, c.checkStream, func() error { return secrets.check(c.Username) },
	} {
		if err := check(); err != nil {
			return driver.Config{}, err
		}
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	var err error
	if secrets.TLSKey, err = c.TLS.Parse(before.TLSKey, now()); err != nil {
		return driver.Config{}, err
	}
	out := driver.Config{Public: c}
	if secrets != (natsSecrets{}) {
		out.Secrets = secrets
	}
	return out, nil
}

func (c natsConfig) checkURL(s driver.Settings) error {
	if c.URL == "" {
		switch {
		case s.NATSURL == "":
			return driver.Invalid("config/url", "is missing")
		case c.TLS != nil || c.TLSFirst:
			return driver.Invalid("config/tls", "needs a url")
		}
		return nil
	}
	u, err := netguard.New(s.AllowPrivate).URL(c.URL, "nats", "tls")
	if err != nil {
		return driver.Invalid("config/url", err.Error())
	}
	// The client would take what follows a comma for another server.
	if strings.Trim(u.Path, "/")+u.RawQuery != "" || strings.Contains(c.URL, ",") {
		return driver.Invalid("config/url", "must be one server's host and port")
	}
	return nil
}

func (c natsConfig) checkNames() error {
	switch {
	case !isPrefix(c.SubjectPrefix) || len(c.SubjectPrefix) > maxName:
		return driver.Invalid("config/subject_prefix", "must be letters, digits, '-' and '_', at most 128, with single dots between them")
	case c.Stream != "" && (len(c.Stream) > maxName || EscapeToken(c.Stream) != c.Stream):
		return driver.Invalid("config/stream", "may hold only letters, digits, '-' and '_', at most 128")
	}
	return nil
}

func (c natsConfig) checkStream() error {
	if c.Replicas < 0 || c.Replicas > maxReplicas {
		return driver.Invalid("config/replicas", "must be 1 to 5")
	}
	if c.Storage != "" && c.Storage != "file" && c.Storage != "memory" {
		return driver.Invalid("config/storage", "must be file or memory")
	}
	if c.MaxBytes != 0 && c.MaxBytes < minBytes {
		return driver.Invalid("config/max_bytes", "must be at least 1048576")
	}
	age, err := duration(c.MaxAge, 0, minAge, maxAge)
	if err != nil {
		return driver.Invalid("config/max_age", `must be a time like "720h", from a minute to ten years`)
	}
	window, err := duration(c.Duplicate, 0, minWindow, maxWindow)
	if err != nil {
		return driver.Invalid("config/duplicate_window", `must be a time like "10m", from a second to a day`)
	}
	if age > 0 && window > age {
		return driver.Invalid("config/duplicate_window", "must not be longer than max_age")
	}
	return nil
}

// signsIn reports whether there is anything to sign in with.
func (s natsSecrets) signsIn() bool {
	return s.Password+s.Token+s.Credentials+s.NkeySeed != ""
}

// check says nothing of what the secrets hold.
func (s natsSecrets) check(username string) error {
	ways := 0
	for _, way := range []bool{username+s.Password != "", s.Token != "", s.Credentials != "", s.NkeySeed != ""} {
		if way {
			ways++
		}
	}
	switch {
	case (username == "") != (s.Password == ""):
		return driver.Invalid("config/username", "and password go together")
	case ways > 1:
		return driver.Invalid("config", "must have only one of username and password, token, credentials and nkey_seed")
	case len(username) > maxSecret || len(s.Password) > maxSecret:
		return driver.Invalid("config/password", "or username is too long")
	case len(s.Token) > maxSecret:
		return driver.Invalid("config/token", "is too long")
	case s.NkeySeed != "" && !isUserSeed([]byte(strings.TrimSpace(s.NkeySeed))):
		return driver.Invalid("config/nkey_seed", "is not the seed of a user's nkey")
	case s.Credentials != "" && !isCredentials([]byte(s.Credentials)):
		return driver.Invalid("config/credentials", "must be the content of a user's .creds file")
	}
	return nil
}

func isUserSeed(seed []byte) bool {
	if len(seed) > maxName {
		return false
	}
	kind, _, err := nkeys.DecodeSeed(seed)
	return err == nil && kind == nkeys.PrefixByteUser
}

func isCredentials(text []byte) bool {
	if len(text) > maxCredentials {
		return false
	}
	jwt, err := nkeys.ParseDecoratedJWT(text)
	if err != nil || strings.Count(jwt, ".") != 2 || bytes.ContainsAny([]byte(jwt), " \r\n\t\"\\") {
		return false
	}
	pair, err := nkeys.ParseDecoratedUserNKey(text)
	if err != nil {
		return false
	}
	pair.Wipe()
	return true
}

// duration reads a time; empty is otherwise.
func duration(text string, otherwise, least, most time.Duration) (time.Duration, error) {
	if text == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && (d < least || d > most) {
		err = errOutOfRange
	}
	return d, err
}

// Subjects names what of a server a sink writes to. Two sinks of one organization
// that name the same write to the same subjects for a formation that both cover;
// two organizations never do, since each one's subjects begin with its name.
func Subjects(config json.RawMessage, s driver.Settings) string {
	var c natsConfig
	if json.Unmarshal(config, &c) != nil {
		return ""
	}
	text := c.URL
	if text == "" {
		text = s.NATSURL
	}
	return hostPort(text) + "/" + c.SubjectPrefix
}

// hostPort is the server of a URL as the client dials it.
func hostPort(text string) string {
	_, rest, found := strings.Cut(text, "://")
	if !found {
		rest = text
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	rest, _, _ = strings.Cut(rest, "/")
	rest = strings.ToLower(rest)
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		host, port = strings.Trim(rest, "[]"), "4222"
	}
	return net.JoinHostPort(strings.TrimSuffix(host, "."), port)
}
