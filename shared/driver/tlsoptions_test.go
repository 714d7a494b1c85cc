package driver_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func TestTLSOptionsParse(t *testing.T) {
	ca := drivertest.NewAuthority(t)
	next := time.Now().AddDate(1, 0, 0)
	cert, key := ca.Issue("gateway", next)
	otherCert, otherKey := ca.Issue("other", next)
	late, lateKey := ca.Issue("late", drivertest.Start.Add(time.Minute))
	for name, tc := range map[string]struct {
		in    driver.TLSConfig
		prior string
		key   string
		field string // of what is refused
	}{
		"nothing":                      {},
		"an authority":                 {in: driver.TLSConfig{CA: ca.PEM}},
		"two authorities":              {in: driver.TLSConfig{CA: ca.PEM + "\n" + ca.PEM}},
		"an authority that is text":    {in: driver.TLSConfig{CA: "trust me"}, field: "ca_pem"},
		"an authority that is a key":   {in: driver.TLSConfig{CA: key}, field: "ca_pem"},
		"an authority with a key":      {in: driver.TLSConfig{CA: ca.PEM + key}, field: "ca_pem"},
		"an authority that is broken":  {in: driver.TLSConfig{CA: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, field: "ca_pem"},
		"an authority that is long":    {in: driver.TLSConfig{CA: strings.Repeat(ca.PEM, 1+64<<10/len(ca.PEM))}, field: "ca_pem"},
		"a pair":                       {in: driver.TLSConfig{ClientCert: cert, ClientKey: key}, key: key},
		"a pair with its chain":        {in: driver.TLSConfig{ClientCert: cert + ca.PEM, ClientKey: key}, key: key},
		"a certificate without a key":  {in: driver.TLSConfig{ClientCert: cert}, field: "client_key_pem"},
		"a key without a certificate":  {in: driver.TLSConfig{ClientKey: key}, field: "client_key_pem"},
		"another's key":                {in: driver.TLSConfig{ClientCert: cert, ClientKey: otherKey}, field: "client_key_pem"},
		"a key that is a certificate":  {in: driver.TLSConfig{ClientCert: cert, ClientKey: cert}, field: "client_key_pem"},
		"a key that is long":           {in: driver.TLSConfig{ClientCert: cert, ClientKey: key + strings.Repeat("\n", 16<<10)}, field: "client_key_pem"},
		"a certificate that expired":   {in: driver.TLSConfig{ClientCert: late, ClientKey: lateKey}, field: "client_cert_pem"},
		"the key as it was":            {in: driver.TLSConfig{ClientCert: cert, ClientKey: driver.Sealed}, prior: key, key: key},
		"the key left out":             {in: driver.TLSConfig{ClientCert: cert}, prior: key, key: key},
		"a new certificate, old key":   {in: driver.TLSConfig{ClientCert: otherCert}, prior: key, field: "client_key_pem"},
		"a new pair":                   {in: driver.TLSConfig{ClientCert: otherCert, ClientKey: otherKey}, prior: key, key: otherKey},
		"no certificate any more":      {in: driver.TLSConfig{CA: ca.PEM, ClientKey: driver.Sealed}, prior: key},
		"sealed before there was one":  {in: driver.TLSConfig{ClientCert: cert, ClientKey: driver.Sealed}, field: "client_key_pem"},
		"a name":                       {in: driver.TLSConfig{ServerName: "broker-1.example.com"}},
		"an address":                   {in: driver.TLSConfig{ServerName: "2001:db8::1"}},
		"a name with a port":           {in: driver.TLSConfig{ServerName: "example.com:443"}, field: "server_name"},
		"a name that is long":          {in: driver.TLSConfig{ServerName: strings.Repeat("a", 254)}, field: "server_name"},
		"a key behind a passphrase":    {in: driver.TLSConfig{ClientCert: cert, ClientKey: strings.ReplaceAll(key, "PRIVATE", "ENCRYPTED PRIVATE")}, field: "client_key_pem"},
		"an old key with a passphrase": {in: driver.TLSConfig{ClientCert: cert, ClientKey: "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n"}, field: "client_key_pem"},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.in
			got, err := c.Parse(tc.prior, drivertest.Start.Add(time.Hour))
			if tc.field != "" {
				f := fault.Of(err)
				if !errors.Is(err, fault.Invalid) || f.Fields[0].Pointer != "/config/tls/"+tc.field || strings.Contains(err.Error(), "BEGIN") {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil || got != tc.key || (c.ClientKey == driver.Sealed) != (tc.key != "") {
				t.Fatalf("key %t, shown as %q: %v", got == tc.key, c.ClientKey, err)
			}
			if _, err := c.Open(got); err != nil {
				t.Error(err)
			}
		})
	}
	var none *driver.TLSConfig
	if got, err := none.Parse("", time.Now()); got != "" || err != nil {
		t.Error(got, err)
	}
}

func TestTLSOptionsMeetAServer(t *testing.T) {
	ca, foreign := drivertest.NewAuthority(t), drivertest.NewAuthority(t)
	next := time.Now().AddDate(1, 0, 0)
	cert, key := ca.Issue("gateway", next)
	strange, strangeKey := foreign.Issue("gateway", next)
	for name, tc := range map[string]struct {
		c      *driver.TLSConfig
		mutual bool
		ok     bool
	}{
		"the system's roots":        {},
		"its authority":             {c: &driver.TLSConfig{CA: ca.PEM}, ok: true},
		"another authority":         {c: &driver.TLSConfig{CA: foreign.PEM}},
		"another name":              {c: &driver.TLSConfig{CA: ca.PEM, ServerName: "example.com"}},
		"its name":                  {c: &driver.TLSConfig{CA: ca.PEM, ServerName: "localhost"}, ok: true},
		"no certificate, asked":     {c: &driver.TLSConfig{CA: ca.PEM}, mutual: true},
		"a certificate, asked":      {c: &driver.TLSConfig{CA: ca.PEM, ClientCert: cert, ClientKey: key}, mutual: true, ok: true},
		"another's, asked":          {c: &driver.TLSConfig{CA: ca.PEM, ClientCert: strange, ClientKey: strangeKey}, mutual: true},
		"a certificate, not wanted": {c: &driver.TLSConfig{CA: ca.PEM, ClientCert: cert, ClientKey: key}, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := tls.Listen("tcp", "127.0.0.1:0", ca.Server(tc.mutual))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if conn, err := listener.Accept(); err == nil {
					_, _ = io.WriteString(conn, "hello")
					_ = conn.Close()
				}
			}()
			defer func() { _ = listener.Close(); <-done }()
			sealed, err := tc.c.Parse("", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			config, err := tc.c.Open(sealed)
			if err != nil {
				t.Fatal(err)
			}
			if config.ServerName == "" {
				config.ServerName = "127.0.0.1"
			}
			raw, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn := tls.Client(raw, config)
			defer func() { _ = conn.Close() }()
			// A server that wants a certificate says so only after the client has
			// finished; so it is the reading that tells.
			got, err := io.ReadAll(conn)
			if ok := string(got) == "hello"; ok != tc.ok {
				t.Errorf("%q %v", got, err)
			}
		})
	}
}

func TestTLSOptionsNoteWhatEndsSoon(t *testing.T) {
	ca := drivertest.NewAuthority(t)
	now := drivertest.Start
	cert, key := ca.Issue("gateway", now.AddDate(0, 0, 3))
	c := &driver.TLSConfig{ClientCert: cert, ClientKey: key}
	var peer tls.ConnectionState
	for at, want := range map[time.Time]string{
		now.AddDate(0, 0, -30): "",
		now:                    "the client's certificate expires on 2026-03-07",
		now.AddDate(0, 0, 3):   "the client's certificate has expired on 2026-03-07",
	} {
		var d driver.Durability
		c.Note(&d, peer, at)
		if got := strings.Join(d.Reasons, "; "); got != want || d.Grade != "" {
			t.Errorf("at %s: %q %q", at, d.Grade, got)
		}
	}
}

func FuzzTLSOptions(f *testing.F) {
	ca := drivertest.NewAuthority(f)
	cert, key := ca.Issue("gateway", time.Now().AddDate(1, 0, 0))
	f.Add(ca.PEM, cert, key, "example.com")
	f.Add("", "", "", "::1")
	f.Fuzz(func(t *testing.T, authority, cert, key, name string) {
		c := &driver.TLSConfig{CA: authority, ClientCert: cert, ClientKey: key, ServerName: name}
		sealed, err := c.Parse("", time.Now())
		if err != nil {
			return
		}
		if c.ClientKey != "" && c.ClientKey != driver.Sealed {
			t.Error("the key is shown")
		}
		if _, err := c.Open(sealed); err != nil {
			t.Errorf("taken, and cannot be used: %v", err)
		}
	})
}
