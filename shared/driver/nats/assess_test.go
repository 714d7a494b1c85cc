package nats

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

func TestNATSGrades(t *testing.T) {
	always, lazy := syncing{known: true, always: true}, syncing{known: true, interval: 2 * time.Minute}
	for name, tc := range map[string]struct {
		config jetstream.StreamConfig
		sync   syncing
		grade  driver.Grade
		reason string // one of them; empty: there is none
	}{
		"three replicas, synced":     {jetstream.StreamConfig{Replicas: 3}, always, "A", ""},
		"three replicas, unknown":    {jetstream.StreamConfig{Replicas: 3}, syncing{}, "B", "does not tell its sync_interval"},
		"three replicas, lazy":       {jetstream.StreamConfig{Replicas: 3}, lazy, "B", "Jepsen"},
		"two replicas":               {jetstream.StreamConfig{Replicas: 2}, always, "B", "while one is away"},
		"one, synced":                {jetstream.StreamConfig{Replicas: 1}, always, "B", "replicas: 1"},
		"one, unknown":               {jetstream.StreamConfig{Replicas: 1}, syncing{}, "C", "Jepsen"},
		"one, lazy":                  {jetstream.StreamConfig{Replicas: 1}, lazy, "C", "every 2m0s"},
		"the memory of one":          {jetstream.StreamConfig{Storage: jetstream.MemoryStorage}, always, "F", "a restart loses it"},
		"the memory of three":        {jetstream.StreamConfig{Storage: jetstream.MemoryStorage, Replicas: 3}, always, "D", "memory only, on 3"},
		"an age":                     {jetstream.StreamConfig{Replicas: 3, MaxAge: time.Hour}, always, "B", "after 1h0m0s, read or not"},
		"a size, old ones go":        {jetstream.StreamConfig{Replicas: 3, MaxBytes: 1 << 30}, always, "C", "max_bytes"},
		"a size, new ones wait":      {jetstream.StreamConfig{Replicas: 3, MaxBytes: 1 << 30, Discard: jetstream.DiscardNew}, always, "A", ""},
		"a number, old ones go":      {jetstream.StreamConfig{Replicas: 3, MaxMsgs: 10}, always, "C", "max_msgs"},
		"the last of each document":  {jetstream.StreamConfig{Replicas: 3, MaxMsgsPerSubject: 1}, always, "D", "max_msgs_per_subject"},
		"a short memory for repeats": {jetstream.StreamConfig{Replicas: 3, Duplicates: 2 * time.Minute}, always, "A", "duplicate_window"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.config.Duplicates == 0 {
				tc.config.Duplicates = ladderStep
			}
			got := grade(tc.config, tc.sync)
			if text := strings.Join(got.Reasons, "\n"); got.Grade != tc.grade || (text == "") != (tc.reason == "") || !strings.Contains(text, tc.reason) {
				t.Errorf("%s %q", got.Grade, got.Reasons)
			}
		})
	}
}

func TestNATSAssesses(t *testing.T) {
	const told = `
accounts {
  SYS { users: [{ user: admin, password: a }], exports: [{ service: "$SYS.REQ.SERVER.*.JSZ" }] }
  APP { jetstream: enabled, users: [{ user: me, password: hush }], imports: [{ service: { account: SYS, subject: "$SYS.REQ.SERVER.*.JSZ" } }] }
}
system_account: SYS`
	for name, tc := range map[string]struct {
		server string
		config map[string]any
		grade  driver.Grade
	}{
		"a server that tells nothing": {"", with(nil), "C"},
		"a server that may be asked":  {told, with(nil, "username", "me", "password", "hush"), "B"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.StartNATS(t, tc.server)
			d := makeSink(t, with(tc.config, "url", s.URL(), "duplicate_window", "1h"), driver.Settings{})
			before, err := d.Assess(t.Context())
			if err != nil || before.Grade != tc.grade || !strings.Contains(strings.Join(before.Reasons, " "), "not there yet") {
				t.Errorf("%+v %v", before, err)
			}
			drivertest.DeliverAll(t, d, "a/1")
			after, err := d.Assess(t.Context())
			if err != nil || after.Grade != tc.grade || len(after.Reasons) != len(before.Reasons)-1 {
				t.Errorf("%+v %v", after, err)
			}
			s.Kill()
			if _, err := d.Assess(t.Context()); err == nil || strings.Contains(err.Error(), s.Addr) {
				t.Errorf("%v", err)
			}
		})
	}
}
