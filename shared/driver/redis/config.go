package redis

import (
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// redisConfig is what a Redis sink shows.
type redisConfig struct {
	URL      string            `json:"url,omitempty"`
	URLs     []string          `json:"urls,omitempty"`    // of a cluster, instead of URL: some of its nodes
	Cluster  bool              `json:"cluster,omitempty"` // go where the servers say the stream is
	Stream   string            `json:"stream"`            // {org} and {app} stand for the names of the event's
	MaxLen   int64             `json:"maxlen,omitempty"`
	Username string            `json:"username,omitempty"`
	Wait     *redisWait        `json:"wait,omitempty"`
	TLS      *driver.TLSConfig `json:"tls,omitempty"`
}

// redisWait asks for copies on replicas, or for the server's own disk, before an
// event counts as delivered.
type redisWait struct {
	Replicas   int  `json:"replicas"`
	LocalFsync bool `json:"local_fsync,omitempty"` // Redis 7.2 or later
	TimeoutMS  int  `json:"timeout_ms"`
}

// redisSecrets is what it keeps sealed.
type redisSecrets struct {
	Password string `json:"password,omitempty"`
	TLSKey   string `json:"tls_key,omitempty"` // of tls.client_cert_pem; comes in as a field of tls
}

const (
	defaultRedisStream = "peat.{org}.{app}"
	defaultRedisWait   = 1000  // milliseconds
	maxRedisWait       = 10000 // milliseconds
	maxRedisReplicas   = 16
	maxRedisNodes      = 32
	maxPassword        = 4096
	headerRoom         = 512 // more than the rest of an entry takes
)

// Parse checks the configuration of a Redis sink.
func Parse(in json.RawMessage, prior []byte, s driver.Settings) (driver.Config, error) {
	var before redisSecrets
	if err := driver.Prior(prior, &before); err != nil {
		return driver.Config{}, err
	}
	var all struct {
		redisConfig
		Password *string `json:"password"`
	}
	if err := driver.DecodeConfig(in, &all); err != nil {
		return driver.Config{}, err
	}
	c, secrets := all.redisConfig, redisSecrets{Password: before.Password}
	if all.Password != nil {
		secrets.Password = *all.Password
	}
	if c.Stream == "" {
		c.Stream = defaultRedisStream
	}
	if err := c.checkURLs(s); err != nil {
		return driver.Config{}, err
	}
	switch {
	case !isStreamTemplate(c.Stream):
		return driver.Config{}, driver.Invalid("config/stream", "may hold only letters, digits, '-', '_', '.', ':' and '/', at most 256, and {org} and {app}")
	case c.MaxLen < 0:
		return driver.Config{}, driver.Invalid("config/maxlen", "must be a number of events, or 0 for no limit")
	case c.Username != "" && secrets.Password == "":
		return driver.Config{}, driver.Invalid("config/username", "needs a password")
	case len(c.Username) > 256 || len(secrets.Password) > maxPassword:
		return driver.Config{}, driver.Invalid("config/username", "or password is too long")
	}
	if err := c.Wait.check(); err != nil {
		return driver.Config{}, err
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
	if secrets != (redisSecrets{}) {
		out.Secrets = secrets
	}
	return out, nil
}

// check also fills in what was left out.
func (w *redisWait) check() error {
	if w == nil {
		return nil
	}
	if w.TimeoutMS == 0 {
		w.TimeoutMS = defaultRedisWait
	}
	switch {
	case w.Replicas < 0 || w.Replicas > maxRedisReplicas || w.Replicas == 0 && !w.LocalFsync:
		return driver.Invalid("config/wait/replicas", "must be 1 to 16, or 0 with local_fsync")
	case w.TimeoutMS < 1 || w.TimeoutMS > maxRedisWait:
		// Without an end a server that lost its replicas would hold us for good.
		return driver.Invalid("config/wait/timeout_ms", "must be 1 to 10000")
	}
	return nil
}

func (c redisConfig) checkURLs(s driver.Settings) error {
	urls := c.URLs
	switch {
	case c.URL == "" && len(urls) == 0:
		return driver.Invalid("config/url", "is missing")
	case c.URL != "" && len(urls) > 0:
		return driver.Invalid("config/urls", "cannot go with url")
	case len(urls) > 1 && !c.Cluster:
		return driver.Invalid("config/urls", "needs cluster: true: without it there is one server")
	case len(urls) > maxRedisNodes:
		return driver.Invalid("config/urls", "are more than 32")
	}
	pointer := func(i int) string { return "config/urls/" + strconv.Itoa(i) }
	if c.URL != "" {
		urls, pointer = []string{c.URL}, func(int) string { return "config/url" }
	}
	guard := netguard.New(s.AllowPrivate)
	secure := false
	for i, text := range urls {
		u, err := guard.URL(text, "redis", "rediss")
		if err != nil {
			return driver.Invalid(pointer(i), err.Error())
		}
		_, db, err := redisTarget(u)
		if err != nil {
			return driver.Invalid(pointer(i), err.Error())
		}
		switch {
		case c.Cluster && db != 0:
			return driver.Invalid(pointer(i), "must not name a database: a cluster has only the first")
		case c.TLS != nil && u.Scheme != "rediss":
			return driver.Invalid("config/tls", "needs a url that begins with rediss://")
		case i > 0 && secure != (u.Scheme == "rediss"):
			return driver.Invalid(pointer(i), "must begin like the first")
		}
		secure = u.Scheme == "rediss"
	}
	return nil
}

// node is where a server listens.
type node struct {
	address string // host and port
	db      int
	tls     bool
}

// open reads the addresses once more, without the rules that were checked when the
// sink was made: the guard looks at every address again when it is dialled.
func (c redisConfig) open() ([]node, error) {
	urls := c.URLs
	if c.URL != "" {
		urls = []string{c.URL}
	}
	var out []node
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return nil, errUnreadable
		}
		n := node{tls: u.Scheme == "rediss"}
		if n.address, n.db, err = redisTarget(u); err != nil {
			return nil, errUnreadable
		}
		out = append(out, n)
	}
	if out == nil {
		return nil, errUnreadable
	}
	return out, nil
}

var errUnreadable = errors.New("the configuration cannot be read")

// redisTarget divides a URL: the server's address, the database's number.
func redisTarget(u *url.URL) (address string, db int, err error) {
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	if number, path := strings.CutPrefix(u.Path, "/"); path && number != "" {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return "", 0, errors.New("may have only the number of a database as its path")
		}
		db = int(n)
	}
	if u.RawQuery != "" {
		return "", 0, errors.New("must not hold a query")
	}
	return net.JoinHostPort(u.Hostname(), port), db, nil
}

// isStreamTemplate reports whether s names a stream once {org} and {app} are
// filled in. No other braces: in a cluster they would mean something.
func isStreamTemplate(s string) bool {
	plain := strings.NewReplacer("{org}", "o", "{app}", "a").Replace(s)
	return s != "" && len(s) <= 256 && !strings.ContainsFunc(plain, func(r rune) bool {
		return r > 0x7f || !driver.IsPlain(byte(r)) && !strings.ContainsRune(".:/", r)
	})
}
