package env_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
)

func reader(vars map[string]string) *env.Reader {
	return env.New(func(name string) (string, bool) {
		s, ok := vars[name]
		return s, ok
	})
}

// settings is one of each type, as a program would have it.
type settings struct {
	Name    string
	Count   int
	On      bool
	Wait    time.Duration
	Retries []time.Duration
	Max     int64
	Public  *url.URL
	Token   string
}

func read(r *env.Reader) settings {
	return settings{
		Name:    r.String("T_NAME", "gateway", "A name."),
		Count:   r.Int("T_COUNT", 3, "A count."),
		On:      r.Bool("T_ON", true, "A switch."),
		Wait:    r.Duration("T_WAIT", time.Hour, "A wait."),
		Retries: r.Durations("T_RETRIES", []time.Duration{time.Second, 90 * time.Second}, "Some waits."),
		Max:     r.Bytes("T_MAX", 64<<20, "A size."),
		Public:  r.URL("T_PUBLIC", "", "An address.", "http", "https"),
		Token:   r.Secret("T_TOKEN", "A token.").Reveal(),
	}
}

func TestDefaultsHoldWhereNothingIsSet(t *testing.T) {
	want := settings{
		Name: "gateway", Count: 3, On: true, Wait: time.Hour,
		Retries: []time.Duration{time.Second, 90 * time.Second}, Max: 64 << 20,
	}
	for name, vars := range map[string]map[string]string{
		"nothing is set": {},
		"all are empty": {
			"T_NAME": "", "T_COUNT": "", "T_ON": "", "T_WAIT": "", "T_RETRIES": "", "T_MAX": "", "T_PUBLIC": "", "T_TOKEN": "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := reader(vars)
			if diff := cmp.Diff(want, read(r)); diff != "" || r.Err() != nil {
				t.Errorf("%v %s", r.Err(), diff)
			}
		})
	}
}

func TestValuesAreRead(t *testing.T) {
	r := reader(map[string]string{
		"T_NAME": " kept as it is ", "T_COUNT": "-7", "T_ON": "false", "T_WAIT": "1m30s", "T_RETRIES": "0s, 5s,1h",
		"T_MAX": "512KiB", "T_PUBLIC": "https://peat.example/base", "T_TOKEN": "hunter2",
	})
	want := settings{
		Name: " kept as it is ", Count: -7, Wait: 90 * time.Second, Retries: []time.Duration{0, 5 * time.Second, time.Hour},
		Max: 512 << 10, Public: &url.URL{Scheme: "https", Host: "peat.example", Path: "/base"}, Token: "hunter2",
	}
	if diff := cmp.Diff(want, read(r)); diff != "" || r.Err() != nil {
		t.Errorf("%v %s", r.Err(), diff)
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "4096": 4096, "4096B": 4096, "1KiB": 1 << 10, "64MiB": 64 << 20, "64Mi": 64 << 20, "2 GiB": 2 << 30,
		"8589934591GiB": 8589934591 << 30,
	} {
		r := reader(map[string]string{"T_MAX": in})
		if got := r.Bytes("T_MAX", 1, ""); got != want || r.Err() != nil {
			t.Errorf("%q: %d, %v; want %d", in, got, r.Err(), want)
		}
	}
	for _, in := range []string{"-1", "1.5MiB", "MiB", "64MB", "64 M", "8589934592GiB", "0x10", "1e3"} {
		r := reader(map[string]string{"T_MAX": in})
		if got := r.Bytes("T_MAX", 1, ""); got != 1 || r.Err() == nil {
			t.Errorf("%q: %d, %v; want the default and an error", in, got, r.Err())
		}
	}
}

func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	r := reader(map[string]string{
		"T_COUNT": "three", "T_ON": "perhaps", "T_WAIT": "-1s", "T_RETRIES": "1s,,2s", "T_MAX": "much",
		"T_PUBLIC": "ftp://user:sesame@peat.example", "T_TOKEN": "hunter2",
	})
	read(r)
	r.Require("T_DATABASE", "T_TOKEN")
	r.Wrong("T_TOKEN", "is too short")
	r.Wrong("T_TOKEN", "is too short")
	err := r.Err()
	if err == nil {
		t.Fatal("nothing was found to be wrong")
	}
	want := `settings: T_COUNT must be a whole number, is "three"; ` +
		`T_ON must be true or false, is "perhaps"; ` +
		`T_WAIT must be a time span such as 90s or 1h30m, is "-1s"; ` +
		`T_RETRIES must be time spans such as 1s,5s,1m, is "1s,,2s"; ` +
		`T_MAX must be a size such as 4096, 512KiB, 64MiB or 1GiB, is "much"; ` +
		`T_PUBLIC must be a URL that begins with http:// or https://; ` +
		`T_DATABASE must be set; T_TOKEN is too short`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestURLsAreNotQuoted(t *testing.T) {
	for _, in := range []string{"://user:sesame@host", "postgres:sesame", "sesame", "http://[sesame", "http://%zzsesame@h"} {
		r := reader(map[string]string{"T_PUBLIC": in})
		if u := r.URL("T_PUBLIC", "", ""); u != nil || r.Err() == nil || strings.Contains(r.Err().Error(), "sesame") {
			t.Errorf("%q: %v, %v", in, u, r.Err())
		}
	}
}

func TestLongValuesAreNotQuoted(t *testing.T) {
	r := reader(map[string]string{"T_COUNT": strings.Repeat("k", 65)})
	if r.Int("T_COUNT", 0, ""); strings.Contains(r.Err().Error(), "kkk") {
		t.Error(r.Err())
	}
}

func TestDocumentation(t *testing.T) {
	r := reader(nil)
	read(r)
	read(r)
	r.URL("T_BUS", "nats://127.0.0.1:4222", "A bus.")
	want := []env.Setting{
		{Name: "T_NAME", Type: "string", Default: "gateway", Doc: "A name."},
		{Name: "T_COUNT", Type: "int", Default: "3", Doc: "A count."},
		{Name: "T_ON", Type: "bool", Default: "true", Doc: "A switch."},
		{Name: "T_WAIT", Type: "duration", Default: "1h", Doc: "A wait."},
		{Name: "T_RETRIES", Type: "durations", Default: "1s,1m30s", Doc: "Some waits."},
		{Name: "T_MAX", Type: "bytes", Default: "64MiB", Doc: "A size."},
		{Name: "T_PUBLIC", Type: "url", Doc: "An address."},
		{Name: "T_TOKEN", Type: "secret", Doc: "A token.", Secret: true},
		{Name: "T_BUS", Type: "url", Default: "nats://127.0.0.1:4222", Doc: "A bus."},
	}
	if diff := cmp.Diff(want, r.Documented()); diff != "" {
		t.Error(diff)
	}
}

// TestDefaultsCanBeWritten: what the documentation shows as a default is what
// one may set.
func TestDefaultsCanBeWritten(t *testing.T) {
	vars := map[string]string{}
	first := reader(vars)
	want := read(first)
	for _, s := range first.Documented() {
		vars[s.Name] = s.Default
	}
	second := reader(vars)
	if diff := cmp.Diff(want, read(second)); diff != "" || second.Err() != nil {
		t.Errorf("%v %s", second.Err(), diff)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	secret := reader(map[string]string{"T_TOKEN": "hunter2"}).Secret("T_TOKEN", "")
	if secret.Reveal() != "hunter2" || !secret.IsSet() || (env.Secret{}).IsSet() || (env.Secret{}).Reveal() != "" {
		t.Error("the secret was not read")
	}
	hidden := struct {
		Shown  env.Secret
		hidden env.Secret
		list   []env.Secret
	}{secret, secret, []env.Secret{secret}}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%c", "%U", "%t"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", secret, &secret, hidden)
	}
	fmt.Fprintln(&out, secret, secret.String(), secret.GoString(), fmt.Errorf("token %v", secret))
	for _, encode := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
		for _, v := range []any{secret, &secret, struct{ S env.Secret }{secret}} {
			b, _ := encode(v)
			out.Write(b)
		}
	}
	b, err := json.Marshal(map[env.Secret]env.Secret{secret: secret})
	fmt.Fprintf(&out, "%s %v", b, err)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "s", secret, "p", &secret, "h", hidden)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "s", secret, "p", &secret, "h", hidden)

	for _, form := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2"), fmt.Sprint([]byte("hunter2"))} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q is in:\n%s", form, out.String())
		}
	}
}
