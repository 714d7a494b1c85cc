package web

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// onceHeader carries the key by which a caller names one request, however often he
// has to send it; replayedHeader marks an answer that was given before.
const (
	onceHeader     = "Idempotency-Key"
	replayedHeader = "Idempotency-Replayed"
)

// Bounds of remembered requests.
const (
	OnceFor      = 24 * time.Hour // how long an answer is remembered
	claimLife    = time.Minute    // longer than any request: then whoever claimed it is dead
	maxOnceKey   = 255
	maxRemember  = 256 << 10 // bytes of an answer
	busyPatience = 10 * time.Second
)

// Claim is the right to carry out a request that may come more than once.
type Claim struct {
	Scope  string // whose the request is; keys of different scopes do not meet
	Key    []byte // a hash of the caller's key, with who and where: nobody can ask for another's answer
	Digest []byte // of the request
	ID     string // of this attempt
	At     time.Time
	Stale  time.Time // claims from before are of the dead
	Until  time.Time // when to forget it
}

// Claimed is what became of a claim.
type Claimed struct {
	Mine   bool   // carry it out
	Digest []byte // of the request that came first
	Done   bool   // it was carried out
	Answer []byte // and this was answered; nil if that was not kept
}

// Claims remembers requests. What is answered is opaque to it.
//
// Whoever carries out a request under a claim says in the same transaction that it
// is done (see ClaimOf), so that a process that dies does not leave it to be done
// twice.
type Claims interface {
	Claim(ctx context.Context, c Claim) (Claimed, error)
	Finish(ctx context.Context, c Claim, answer []byte) error
	Release(ctx context.Context, c Claim) error // it had no effect; it may come again
}

type claimKey struct{}

// ClaimOf returns the claim under which the request of ctx is carried out.
func ClaimOf(ctx context.Context) (Claim, bool) {
	c, ok := ctx.Value(claimKey{}).(Claim)
	return c, ok && c.ID != ""
}

// Aside returns ctx for work that goes before what a request is for, and does no
// harm if it is done again.
func Aside(ctx context.Context) context.Context { return context.WithValue(ctx, claimKey{}, Claim{}) }

// answer is what is remembered.
type answer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// remembered are the headers that are part of an answer.
var remembered = []string{"Content-Type", "Location", "ETag"}

// once carries out a request that carries a key, or answers what was answered when it
// came before. Only success is remembered: what fails has done nothing, and may be
// sent again.
func (m *mux) once(route Route, w http.ResponseWriter, r *http.Request) error {
	keys := r.Header.Values(onceHeader)
	if len(keys) == 0 || m.Claims == nil {
		return route.Handle(w, r)
	}
	if len(keys) > 1 || !visible(keys[0]) {
		return fault.Malformed.New("%s must be one text of 1 to %d visible characters", onceHeader, maxOnceKey)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return unreadable(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	now := time.Now()
	claim := Claim{
		Scope: r.PathValue("org"), Key: digest("key", m.Caller(r.Context()), route.Pattern, keys[0]),
		Digest: digest("request", r.URL.Path, r.URL.RawQuery, string(body)),
		ID:     rand.Text(), At: now, Stale: now.Add(-claimLife), Until: now.Add(OnceFor),
	}
	seal, err := m.sealer(keys[0], claim)
	if err != nil {
		return err
	}
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		got, err := m.Claims.Claim(r.Context(), claim)
		switch {
		case err != nil:
			return err
		case got.Mine:
			return m.carryOut(route, w, r, claim, seal)
		case !bytes.Equal(got.Digest, claim.Digest):
			return fault.Invalid.New("this %s was sent with another request", onceHeader)
		case got.Answer != nil:
			return replay(w, seal, claim, got.Answer)
		case got.Done:
			return errLost
		case time.Since(now) > busyPatience:
			return fault.RetryIn(fault.Conflict.New("the request that came first with this %s is not answered yet", onceHeader), time.Second)
		}
		// Somebody else carries it out, perhaps in another process: there is nobody to
		// be told by.
		select {
		case <-r.Context().Done():
			return r.Context().Err()
		case <-time.After(wait):
		}
	}
}

var errLost = fault.Conflict.New("this request was carried out, and its answer was not kept; look at what is there")

// carryOut runs the handler under a claim and keeps what it answers.
func (m *mux) carryOut(route Route, w http.ResponseWriter, r *http.Request, claim Claim, seal cipher.AEAD) (err error) {
	// The claim ends also if the caller goes away or the handler panics.
	after := context.WithoutCancel(r.Context())
	out := &kept{header: w.Header().Clone()}
	finished := false
	defer func() {
		if !finished {
			err = errors.Join(err, m.Claims.Release(after, claim))
		}
	}()
	if err := route.Handle(out, r.WithContext(context.WithValue(r.Context(), claimKey{}, claim))); err != nil {
		return err
	}
	if out.status >= 200 && out.status < 300 {
		finished = true
		a := answer{out.status, http.Header{}, out.body.Bytes()}
		for _, name := range remembered {
			if v := out.header.Values(name); len(v) > 0 {
				a.Header[http.CanonicalHeaderKey(name)] = v
			}
		}
		text, err := json.Marshal(a)
		if err == nil && len(text) <= maxRemember {
			nonce := make([]byte, seal.NonceSize())
			_, _ = rand.Read(nonce) // it cannot fail
			err = m.Claims.Finish(after, claim, seal.Seal(nonce, nonce, text, claim.Key))
		}
		if err != nil {
			m.Log.ErrorContext(after, "answer not remembered; to the same request, sent again, it is said so", "err", err, "request_id", RequestID(after))
		}
	}
	return out.writeTo(w)
}

func replay(w http.ResponseWriter, seal cipher.AEAD, claim Claim, sealed []byte) error {
	n := seal.NonceSize()
	if len(sealed) < n {
		return errLost
	}
	text, err := seal.Open(nil, sealed[:n], sealed[n:], claim.Key)
	var a answer
	if err != nil || json.Unmarshal(text, &a) != nil {
		return errLost // sealed with a secret that was replaced since
	}
	for name, v := range a.Header {
		w.Header()[name] = v
	}
	w.Header().Set(replayedHeader, "true")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body)
	return nil
}

// sealer seals an answer, which may hold a secret that is shown once, with a key made
// of the caller's own, which is not kept, and of the gateway's, which is not in the
// store.
func (m *mux) sealer(key string, claim Claim) (cipher.AEAD, error) {
	secret, err := hkdf.Key(sha256.New, append([]byte(key), m.OnceSecret...), claim.Key, "peat-gateway idempotency v1", 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// digest hashes parts with their lengths, so that no two lists run into each other.
func digest(parts ...string) []byte {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

func visible(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x21 || c > 0x7e {
			return false
		}
	}
	return s != "" && len(s) <= maxOnceKey
}

// kept is an answer that is held back until it has been remembered.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *kept) Header() http.Header { return k.header }

func (k *kept) WriteHeader(status int) {
	if k.status == 0 {
		k.status = status
	}
}

func (k *kept) Write(b []byte) (int, error) {
	k.WriteHeader(http.StatusOK)
	return k.body.Write(b)
}

func (k *kept) writeTo(w http.ResponseWriter) error {
	for name, v := range k.header {
		w.Header()[name] = v
	}
	k.WriteHeader(http.StatusOK)
	w.WriteHeader(k.status)
	_, _ = w.Write(k.body.Bytes())
	return nil
}
