package enroll

import (
	"crypto/hmac"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// pollEvery is how often a node that waits should ask.
const pollEvery = 10 * time.Second

// waitingWire is what a node is told that waits. Secret is only in the first answer.
type waitingWire struct {
	ID          string              `json:"enrollment_id"`
	State       enrollment.Standing `json:"state"`
	PollURL     string              `json:"poll_url"`
	Secret      string              `json:"poll_secret,omitempty"`
	ExpiresAt   time.Time           `json:"expires_at"`
	Note        string              `json:"note,omitempty"`
	Certificate *certificateWire    `json:"certificate,omitempty"`
}

func wireWaiting(a enrollment.Application, secret string) waitingWire {
	return waitingWire{ID: a.ID, State: a.Standing, PollURL: pollPath(a), Secret: secret, ExpiresAt: a.ExpiresAt}
}

func pollPath(a enrollment.Application) string {
	return event.FormationSource(a.Key.Org, a.Key.App) + "/enroll/" + a.ID
}

// errPoll is the one answer for whoever has not the secret of an application.
var errPoll = fault.Unauthenticated.New("the secret of this enrollment is needed")

// getPoll tells a node what became of its application: 202 while it waits, and once it
// was let in its certificate, as often as it asks within the time that it would have
// waited.
func (f *Function) getPoll(w http.ResponseWriter, r *http.Request) error {
	key, id, err := applicationOf(r)
	if err != nil {
		return err
	}
	if err := f.limitAddress(f.address(r)); err != nil {
		return f.unheard(r.Context(), key, f.address(r), tooOften, err)
	}
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || enrollment.PollKind.Check(secret) != nil {
		return errPoll
	}
	a, err := f.Store.Application(r.Context(), key, id)
	if errors.Is(err, fault.NotFound) {
		return errPoll
	}
	if err != nil {
		return err
	}
	known := false
	for _, hash := range f.Tokens.Hashes(secret) {
		known = hmac.Equal(hash, a.Secret) || known
	}
	if !known || !f.stands(a) && a.Standing != enrollment.Waiting {
		return errPoll
	}
	out := wireWaiting(a, "")
	status := http.StatusOK
	switch out.State = a.At(f.Now()); out.State {
	case enrollment.Waiting:
		status = http.StatusAccepted
		w.Header().Set("Retry-After", strconv.Itoa(int(pollEvery.Seconds())))
	case enrollment.Rejected:
		out.Note = a.Note
	case enrollment.Accepted:
		formation, err := f.Store.Formation(r.Context(), key)
		if err != nil {
			return err
		}
		got, err := f.granted(r.Context(), formation, a)
		if err != nil {
			return err
		}
		c, err := wireCertificate(got.certificate, f.Now())
		if err != nil {
			return err
		}
		if got.credentials != nil {
			if c.Credentials, err = wireCredentials(got.credentials); err != nil {
				return err
			}
		}
		out.Note, out.Certificate = a.Note, &c
	}
	return web.WriteJSON(w, status, out)
}
