package sinks

import (
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

const (
	defaultOverlap = 24 * time.Hour
	maxOverlap     = 7 * 24 * time.Hour
)

// readOverlap reads for how long what is replaced stays good.
func readOverlap(r *http.Request) (time.Duration, error) {
	in := struct {
		Overlap string `json:"overlap"`
	}{Overlap: defaultOverlap.String()}
	if err := web.ReadOptionalJSON(r, &in); err != nil {
		return 0, err
	}
	overlap, err := time.ParseDuration(in.Overlap)
	if err != nil || overlap < 0 || overlap > maxOverlap {
		return 0, driver.Invalid("overlap", "must be a duration like 24h, at most 168h")
	}
	return overlap, nil
}

// rotateSecret gives a sink a new secret and shows it this once. The old one signs
// beside it until the overlap ends.
func (a *Admin) rotateSecret(w http.ResponseWriter, r *http.Request) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	overlap, err := readOverlap(r)
	if err != nil {
		return err
	}
	rotate := kinds[sink.Kind].rotate
	if rotate == nil || sink.Sealed == nil {
		return fault.Conflict.New("a %s sink has no secret that the gateway made", sink.Kind)
	}
	prior, err := a.unseal(r.Context(), sink)
	if err != nil {
		return err
	}
	defer clear(prior)
	made, err := rotate(prior, overlap, a.Now())
	if err != nil {
		return err
	}
	if sink.Sealed, err = a.seal(r.Context(), sink.Org, sink.ID, made.Secrets); err != nil {
		return err
	}
	if err := a.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if _, err := tx.UpdateSinkAndSecrets(r.Context(), sink); err != nil {
			return err
		}
		return a.note(tx, r, &sink, &sink, "sink.rotate-secret", event.SinkChangedType)
	}); err != nil {
		return err
	}
	a.Notify()
	return a.show(w, r, http.StatusOK, sink, made.Once)
}
