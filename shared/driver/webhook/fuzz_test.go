package webhook

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/httptarget"
)

// What is taken can be used: the URL as one, each header as one and without
// touching ours.
func FuzzWebhookConfiguration(f *testing.F) {
	f.Add("https://example.com/x?y", "X-Token", "abc", 1, 1024)
	f.Add("http://[::1%25eth0]:80", "Host", "a\nb", 0, 0)
	f.Add("https://example.com", "webhook-id", "a", 1001, -1)
	f.Fuzz(func(t *testing.T, target, name, value string, events, bytes int) {
		c := webhookConfig{Config: httptarget.Config{URL: target, Headers: map[string]string{name: value}}, Batch: &batchConfig{events, bytes}}
		in, err := json.Marshal(c)
		if err != nil {
			t.Skip()
		}
		s := driver.Settings{Now: time.Now, AttemptTimeout: time.Second}
		made, err := Parse(in, nil, s)
		if err != nil {
			return
		}
		if public, err := json.Marshal(made.Public); err != nil || len(value) > 8 && strings.Contains(string(public), value) && !strings.Contains(target+name, value) {
			t.Errorf("%s: %v", public, err)
		}
		w := openMade(t, made, s, nil)
		if w.batch.MaxEvents < 1 || w.batch.MaxEvents > 1000 || w.batch.MaxBytes < 1024 {
			t.Errorf("%+v", w.batch)
		}
		req, err := http.NewRequest(http.MethodPost, target, nil)
		if err != nil {
			t.Fatalf("%q was taken and cannot be used: %v", target, err)
		}
		req.Header = w.Header()
		if got := req.Header.Get("Webhook-Id") + req.Header.Get("Content-Type") + req.Header.Get("Webhook-Signature"); got != "" {
			t.Errorf("%q: %q is ours to set", name, value)
		}
		if err := req.Header.Write(io.Discard); err != nil {
			t.Error(err)
		}
	})
}
