package envelope

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"
)

// FixedToken is a token that stays what it is.
func FixedToken(token string) func() (string, error) {
	return func() (string, error) { return token, nil }
}

// TokenFile is the token that a file holds at the time, as Vault's agent keeps one.
func TokenFile(path string) func() (string, error) {
	return func() (string, error) {
		f, err := os.Open(path)
		if err != nil {
			return "", errors.New("the file with vault's token cannot be opened")
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
		if err != nil {
			return "", errors.New("the file with vault's token cannot be read")
		}
		return strings.TrimSpace(string(text)), nil
	}
}

// maxToken is more than the longest that a server gives out.
const maxToken = 8 << 10

// token is the token now, if it is one that can be sent.
func (v *Vault) token() (string, error) {
	token, err := v.o.Token()
	if err != nil {
		return "", unavailable(err)
	}
	if token == "" || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", unavailable(errors.New("there is no token for vault, or something else in its place"))
	}
	return token, nil
}

const (
	tokenLook     = time.Minute      // how often it is looked whether the token is another
	tokenCheck    = time.Hour        // how often one is asked about that does not expire
	tokenTrouble  = 10 * time.Second // before asking again after a failure; grows to a minute
	tokenShortest = time.Second
)

// keepToken renews the token whenever half of its life is over. A gateway that is
// idle for longer than its token lives would find itself locked out otherwise.
func (v *Vault) keepToken(ctx context.Context) {
	var known string
	var due time.Time
	trouble := tokenTrouble
	for {
		token, err := v.token()
		if now := time.Now(); err == nil && (token != known || !now.Before(due)) {
			wait, err := v.renew(ctx, token != known)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				v.o.Log.Warn("vault's token could not be renewed; it is tried again", "error", err, "in", trouble)
				wait, trouble = trouble, min(2*trouble, tokenLook)
			} else {
				trouble = tokenTrouble
			}
			known, due = token, now.Add(wait)
		}
		pause := tokenLook
		if !due.IsZero() {
			pause = min(max(time.Until(due), tokenShortest), tokenLook)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// renew renews the token if it can be, and returns when to do so again.
func (v *Vault) renew(ctx context.Context, isNew bool) (time.Duration, error) {
	var is struct {
		Data struct {
			TTL         int64
			CreationTTL int64 `json:"creation_ttl"`
			Renewable   bool
		}
	}
	if err := v.call(ctx, http.MethodGet, "auth/token/lookup-self", nil, &is); err != nil {
		return 0, err
	}
	left := seconds(is.Data.TTL)
	switch {
	case left == 0:
		return tokenCheck, nil // it never expires
	case !is.Data.Renewable:
		if isNew {
			v.o.Log.Warn("vault's token cannot be renewed: somebody has to replace it before it expires", "in", left)
		}
		return half(left), nil
	}
	var renewed struct {
		Auth struct {
			Lease int64 `json:"lease_duration"`
		}
	}
	if err := v.call(ctx, http.MethodPost, "auth/token/renew-self", struct{}{}, &renewed); err != nil {
		return 0, err
	}
	now := seconds(renewed.Auth.Lease)
	if now < seconds(is.Data.CreationTTL)*3/4 {
		v.o.Log.Warn("vault's token comes to the end of its longest life: somebody has to replace it", "in", now)
	}
	return half(now), nil
}

// seconds keeps an answer from being a time that does not fit.
func seconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), int64(10*365*24*time.Hour/time.Second))) * time.Second
}

// half is somewhat less than half, by a part that differs between replicas.
func half(d time.Duration) time.Duration {
	return max(d/2-rand.N(d/10+1), tokenShortest)
}
