package httptarget

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// Assess looks at the receiver without sending it anything to keep: an OPTIONS
// request, whose answer may be anything.
func (t *Target) Assess(ctx context.Context) (driver.Durability, error) {
	header := t.Header()
	if t.tokens != nil {
		token, err := t.tokens.get(ctx, "")
		if err != nil {
			return driver.Durability{}, err
		}
		header["Authorization"] = []string{token}
	}
	connected := false
	resp, cancel, err := t.do(ctx, http.MethodOptions, header, nil, &connected)
	defer cancel()
	if err != nil {
		return driver.Durability{}, errors.New(describe(err, t.limit))
	}
	_ = resp.Body.Close()
	var d driver.Durability
	d.Worst("B", "a receiver answers that it has an event, and says nothing of how it keeps it")
	if resp.TLS == nil {
		d.Worst("D", "events travel unencrypted: who is between can read them, and answer in the receiver's place")
	} else {
		t.tls.Note(&d, *resp.TLS, t.now())
	}
	if t.tokens != nil && !t.tokens.encrypted() {
		d.Worst("D", "the token and the client's secret travel unencrypted to the token server")
	}
	if s := resp.StatusCode; s == http.StatusUnauthorized || s == http.StatusForbidden || s == http.StatusGone || s/100 == 5 {
		d.Reasons = append(d.Reasons, fmt.Sprintf("it answers %d %s to OPTIONS; whether it takes events shows when one is sent", s, http.StatusText(s)))
	}
	return d, nil
}
