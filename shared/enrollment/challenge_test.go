package enrollment_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var (
	challengeAt = time.Date(2026, 3, 4, 5, 6, 7, 123_456_789, time.UTC)
	logistics   = tenant.Key{Org: "acme", App: "logistics"}
)

func tokenKey(t testing.TB, digits ...string) token.Key {
	t.Helper()
	for i, d := range digits {
		digits[i] = strings.Repeat(d, 32)
	}
	k, err := token.ParseKey(strings.Join(digits, ","))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newChallenge(t testing.TB, k token.Key) enrollment.Challenge {
	t.Helper()
	c, err := enrollment.NewChallenge(k, logistics, "ABCDEF01", challengeAt, bytes.NewReader(bytes.Repeat([]byte{7}, 16)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChallenges(t *testing.T) {
	k := tokenKey(t, "17")
	made := newChallenge(t, k)
	if got := made.ExpiresAt.Sub(challengeAt); got > enrollment.ChallengeLife || got <= enrollment.ChallengeLife-time.Millisecond {
		t.Errorf("good for %s", got)
	}
	for name, tc := range map[string]struct {
		key   token.Key
		text  string
		where tenant.Key
		mesh  string
		after time.Duration
		ok    bool
	}{
		"at once":                 {k, made.Text, logistics, "ABCDEF01", 0, true},
		"in the last moment":      {k, made.Text, logistics, "ABCDEF01", enrollment.ChallengeLife - time.Second, true},
		"too late":                {k, made.Text, logistics, "ABCDEF01", enrollment.ChallengeLife, false},
		"after the key was moved": {tokenKey(t, "18", "17"), made.Text, logistics, "ABCDEF01", 0, true},
		"under another key":       {tokenKey(t, "18"), made.Text, logistics, "ABCDEF01", 0, false},
		"in another organization": {k, made.Text, tenant.Key{Org: "rival", App: "logistics"}, "ABCDEF01", 0, false},
		"in another formation":    {k, made.Text, tenant.Key{Org: "acme", App: "medevac"}, "ABCDEF01", 0, false},
		"names that run together": {k, made.Text, tenant.Key{Org: "acmel", App: "ogistics"}, "ABCDEF01", 0, false},
		"in another mesh":         {k, made.Text, logistics, "ABCDEF02", 0, false},
		"nothing":                 {k, "", logistics, "ABCDEF01", 0, false},
		"without its beginning":   {k, strings.TrimPrefix(made.Text, enrollment.ChallengePrefix), logistics, "ABCDEF01", 0, false},
		"cut off":                 {k, made.Text[:len(made.Text)-1], logistics, "ABCDEF01", 0, false},
		"with more":               {k, made.Text + "A", logistics, "ABCDEF01", 0, false},
		"very long":               {k, made.Text + strings.Repeat("A", 1<<20), logistics, "ABCDEF01", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := enrollment.OpenChallenge(tc.key, tc.text, tc.where, tc.mesh, challengeAt.Add(tc.after))
			if (err == nil) != tc.ok || err != nil && !errors.Is(err, fault.Unauthenticated) {
				t.Fatal(err)
			}
			if tc.ok && (got.Text != made.Text || !bytes.Equal(got.Nonce, made.Nonce) || !got.ExpiresAt.Equal(made.ExpiresAt)) {
				t.Errorf("%+v, want %+v", got, made)
			}
		})
	}
	if _, err := enrollment.NewChallenge(k, logistics, "x", challengeAt, iotest.ErrReader(errors.New("none"))); err == nil {
		t.Error("made of nothing")
	}
}

// TestEveryByteOfAChallengeCounts: one that is changed anywhere is another's.
func TestEveryByteOfAChallengeCounts(t *testing.T) {
	k := tokenKey(t, "17")
	made := newChallenge(t, k)
	for i := range made.Text {
		for _, c := range []byte("AB_9") {
			changed := []byte(made.Text)
			if changed[i] == c {
				continue
			}
			changed[i] = c
			if _, err := enrollment.OpenChallenge(k, string(changed), logistics, "ABCDEF01", challengeAt); err == nil {
				t.Errorf("%s is taken", changed)
			}
		}
	}
}

func FuzzOpenChallenge(f *testing.F) {
	k := tokenKey(f, "17")
	made := newChallenge(f, k)
	f.Add(made.Text)
	f.Add(enrollment.ChallengePrefix)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := enrollment.OpenChallenge(k, text, logistics, "ABCDEF01", challengeAt); err == nil && text != made.Text {
			t.Errorf("%q is taken", text)
		}
	})
}
