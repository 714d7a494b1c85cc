package mtls

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"
)

const (
	maxAnswers = 10_000
	maxDown    = 1_000
	// A responder that does not answer is left alone for a while: everybody who comes
	// would wait for it.
	downFor = 5 * time.Second
)

// answers are what responders said of late. The zero value is empty.
type answers struct {
	mu     sync.Mutex
	kept   map[[sha256.Size]byte]kept
	unwell map[string]time.Time // responders that did not answer, and until when that counts
}

type kept struct {
	verdict
	end time.Time
}

// answerKey names a certificate by who issued it and its serial.
func answerKey(cert, issuer *x509.Certificate) [sha256.Size]byte {
	by := issuerKey(issuer)
	return sha256.Sum256(append(by[:], cert.SerialNumber.Bytes()...))
}

// get returns what was said of a certificate, or that the responder does not answer.
func (a *answers) get(key [sha256.Size]byte, address string, now time.Time) (verdict, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k, ok := a.kept[key]; ok && now.Before(k.end) {
		return k.verdict, true
	}
	if until, ok := a.unwell[address]; ok && now.Before(until) {
		return verdict{state: unknown, why: "the responder did not answer a moment ago"}, true
	}
	return verdict{}, false
}

func (a *answers) put(key [sha256.Size]byte, v verdict, now time.Time) {
	end := now.Add(maxAnswerAge)
	if v.until.Before(end) {
		end = v.until
	}
	if v.state == unknown {
		end = now.Add(downFor) // it may know the certificate soon
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept == nil {
		a.kept = map[[sha256.Size]byte]kept{}
	}
	if _, there := a.kept[key]; !there && len(a.kept) >= maxAnswers {
		for k, old := range a.kept {
			if !now.Before(old.end) {
				delete(a.kept, k)
			}
		}
		for k := range a.kept { // any one: to ask again costs little
			if len(a.kept) < maxAnswers {
				break
			}
			delete(a.kept, k)
		}
	}
	a.kept[key] = kept{v, end}
}

func (a *answers) down(address string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unwell == nil || len(a.unwell) >= maxDown {
		a.unwell = map[string]time.Time{}
	}
	a.unwell[address] = now.Add(downFor)
}
